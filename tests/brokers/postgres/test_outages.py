"""Servers that are killed, restarted, frozen or full: nothing is lost, and nobody waits long."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from support.events import MANY, contents, drafts, next_events
from support.waiting import until
from webapp.brokers.base import Gap
from webapp.errors import ServiceUnavailable

if TYPE_CHECKING:
    from support.broker_process import BrokerProcess, Connect
    from support.postgres_server import PostgresServer
    from webapp.core.events import Event

_STATED = 30.0  # seconds, in which all calls have an answer, also on a busy machine
_END_ALL = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = %s AND pid <> pg_backend_pid()
"""


def published(log: BrokerProcess, *data: str) -> list[Event]:
    """Publish with own ids until the server answers, as a careful publisher does."""

    def publish() -> list[Event] | None:
        try:
            return [event for it in data for event in log.append(drafts(it, id=f"id {it}"))]
        except ServiceUnavailable:
            return None

    events: list[Event] = until(publish, "it is published")
    return events


def test_ended_connections_lose_nothing(
    postgres: PostgresServer, url: str, connect: Connect
) -> None:
    log = connect(url)
    follower = log.follow(log.bounds().head)
    for n in range(4):
        published(log, f"{n}")
        assert postgres.ask(_END_ALL, url.rpartition("/")[2])
    assert contents(next_events(follower, 4)) == ["0", "1", "2", "3"]


def test_a_killed_server_has_lost_nothing_when_it_is_back(
    server: PostgresServer, connect: Connect
) -> None:
    log = connect(url := server.new_log())
    start = log.bounds().head
    follower = log.follow(start)
    published(log, "a")
    assert contents(next_events(follower, 1)) == ["a"]
    server.kill()
    with pytest.raises(ServiceUnavailable, match="cannot be reached"):
        log.append(drafts("lost"))
    away = connect(url)
    with pytest.raises(ServiceUnavailable, match="cannot be reached"):
        away.bounds()
    late = away.follow(start)
    server.start()
    published(log, "a", "b")
    assert contents(next_events(follower, 1)) == ["b"]
    assert contents(next_events(late, 2)) == ["a", "b"]
    assert contents(log.read(start, MANY)) == ["a", "b"]


def test_a_frozen_server_is_given_up_and_found_again(
    server: PostgresServer, connect: Connect
) -> None:
    log = connect(server.new_log())
    start = log.bounds().head
    follower = log.follow(start)
    published(log, "a")
    assert contents(next_events(follower, 1)) == ["a"]  # its connections are there
    server.freeze()
    try:
        began = time.monotonic()
        calls = [log.start("append", drafts(x, id=f"id {x}")) for x in "bcd"]
        calls += [log.start("bounds") for _ in range(50)]  # and nobody waits for all before them
        for call in calls:
            # An append that waits for another one is given up with a text of its own.
            with pytest.raises(ServiceUnavailable, match=r"may be in it|may be published"):
                call.result(2 * _STATED)
        assert time.monotonic() - began < _STATED
    finally:
        server.thaw()
    published(log, *"bcd")
    found = contents(next_events(follower, 3))
    assert sorted(found) == ["b", "c", "d"]
    assert contents(log.read(start, MANY)) == ["a", *found]


def test_tables_that_were_dropped_are_made_again_and_that_is_told(
    postgres: PostgresServer, url: str, connect: Connect
) -> None:
    log = connect(url)
    follower = log.follow(log.bounds().head)
    [old] = published(log, "a")
    next_events(follower, 1)
    postgres.ask("DROP SCHEMA tidings CASCADE", url=url)
    found = next(it for it in follower if isinstance(it, Gap))
    assert (found.reason, found.position > old.position) == ("aged", True)
    published(log, "a")
    assert contents(next_events(follower, 1)) == ["a"]


def test_a_log_that_was_restored_from_a_copy_is_told(
    postgres: PostgresServer, url: str, connect: Connect
) -> None:
    log = connect(url)
    follower = log.follow(log.bounds().head)
    [old, new] = published(log, "a", "b")
    next_events(follower, 2)
    name = url.rpartition("/")[2]
    ms = old.position.ms << 20 | old.position.seq
    back = f"DELETE FROM tidings.log WHERE position > {ms};"
    postgres.ask(f"{back} UPDATE tidings.head SET position = {ms}, events = 1", url=url)
    postgres.ask(_END_ALL, name)
    assert next(it for it in follower if isinstance(it, Gap)) == Gap(old.position, "unknown")
    assert log.position_of(str(new.position)) is None


def test_a_server_without_free_connections_is_said_and_waited_for(
    server: PostgresServer, connect: Connect
) -> None:
    url = server.new_log()
    name = url.rpartition("/")[2]
    server.ask(f"CREATE ROLE few LOGIN; GRANT ALL ON DATABASE {name} TO few")
    log = connect(url.replace("hub@", "few@"))
    log.bounds()
    server.ask("ALTER ROLE few CONNECTION LIMIT 1")
    with pytest.raises(ServiceUnavailable, match="as many connections as it permits"):
        log.append(drafts("a"))
    server.ask("ALTER ROLE few CONNECTION LIMIT -1")
    assert log.append(drafts("a"))


def test_a_server_that_takes_no_writes_can_be_read(
    server: PostgresServer, connect: Connect
) -> None:
    url = server.new_database()
    name = url.rpartition("/")[2]
    log = connect(url)
    start = log.bounds().head
    log.append(drafts("a"))
    server.ask(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    server.ask(_END_ALL, name)
    refused = partial(log.start, "append", drafts("b"))
    until(
        lambda: "takes no writes" in str(refused().exception(_STATED)),
        "the refusal names the reason",
    )
    assert contents(next_events(log.follow(start), 1)) == contents(log.read(start, MANY)) == ["a"]
    server.ask(f"ALTER DATABASE {name} SET default_transaction_read_only = off")
    published(log, "b")
    assert contents(log.read(start, MANY)) == ["a", "b"]
