"""Many processes, one event log: one order for all, and limits that hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.events import MANY, contents, drafts, next_events
from support.waiting import until

if TYPE_CHECKING:
    from support.broker_process import Connect
    from support.postgres_server import PostgresServer


def test_all_processes_see_one_order_and_no_event_is_missing(url: str, connect: Connect) -> None:
    logs = [connect(url) for _ in range(3)]
    start = logs[0].bounds().head
    followers = [log.follow(start) for log in logs]
    calls = [
        log.start("append", drafts(*[f"{name}-{n}-{part}" for part in range(n % 4 + 1)]))
        for n in range(60)
        for name, log in enumerate(logs)
    ]
    positions = sorted(event.position for call in calls for event in call.result(30))
    found = [next_events(it, len(positions)) for it in followers]
    assert [event.position for event in found[0]] == positions
    assert contents(found[0]) == contents(found[1]) == contents(found[2])


@pytest.mark.parametrize("listen", ["on", "off"])
def test_an_event_of_another_process_comes_soon(url: str, connect: Connect, listen: str) -> None:
    ours, theirs = connect(f"{url}?listen={listen}"), connect(url)
    follower = ours.follow(ours.bounds().head)
    for n in range(20):
        theirs.append(drafts(f"{n}"))
        assert contents(next_events(follower, 1)) == [f"{n}"]


def test_old_events_are_trimmed_by_bytes_and_by_age(
    postgres: PostgresServer, url: str, connect: Connect
) -> None:
    log = connect(url, HISTORY_BYTES=100_000, HISTORY_AGE="1s")
    log.append(drafts(*["x" * 1000] * 300))
    until(lambda: 0 < log.count() < 100, "the bytes are within the limit")
    log.follow(log.bounds().head)
    until(lambda: log.count() == 0, "the rest is too old")
    assert log.bounds().floor == log.bounds().head
    for table in ("log", "hit", "topic"):
        assert postgres.ask(f"SELECT count(*) FROM tidings.{table}", url=url) == [(0,)]
    assert postgres.ask("SELECT events, bytes FROM tidings.head", url=url) == [(0, 0)]
    [event] = log.append(drafts("new"))
    assert contents(log.read(log.bounds().floor, MANY)) == ["new"]
    assert log.position_of(str(event.position)) == event.position


def test_what_was_answered_waits_for_the_disk_also_where_the_database_would_not(
    postgres: PostgresServer, connect: Connect
) -> None:
    url = postgres.new_database()
    name = url.rpartition("/")[2]
    postgres.ask(f"ALTER DATABASE {name} SET synchronous_commit = off")
    connect(url).append(drafts("a"))
    postgres.ask(
        "CREATE TABLE seen (setting text);"
        " CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN INSERT INTO public.seen SELECT current_setting(''synchronous_commit'');"
        " RETURN NULL; END';"
        " CREATE TRIGGER see AFTER INSERT ON tidings.log EXECUTE FUNCTION see()",
        url=url,
    )
    connect(url).append(drafts("b"))
    assert postgres.ask("SELECT setting FROM seen", url=url) == [("on",)]
