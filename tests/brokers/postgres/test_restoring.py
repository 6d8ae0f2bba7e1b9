"""A database that is restored from a dump, and a server whose clock goes back."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from support.events import MANY, contents, drafts, next_events
from support.programs import need
from support.waiting import until
from webapp.brokers.base import Gap
from webapp.core.events import Draft
from webapp.core.removals import Removal

if TYPE_CHECKING:
    from support.broker_process import Connect
    from support.postgres_server import PostgresServer

_OUTBOX = "SELECT tidings.publish('t', 'c', id => 'own c')"
_BEHIND = """
CREATE OR REPLACE FUNCTION tidings.now_ms() RETURNS bigint LANGUAGE sql AS $$
  SELECT floor(extract(epoch FROM clock_timestamp() - interval '1 hour') * 1000)::bigint $$
"""


def dump(url: str) -> bytes:
    return subprocess.run([need("pg_dump"), url], capture_output=True, check=True).stdout


def restore(text: bytes, url: str) -> None:
    command = [need("psql"), "--quiet", "--set", "ON_ERROR_STOP=1", url]
    subprocess.run(command, input=text, stdout=subprocess.DEVNULL, check=True)


def test_a_restored_database_is_followed_and_a_newer_cursor_is_told(
    postgres: PostgresServer, connect: Connect
) -> None:
    log = connect(url := postgres.new_database())
    start = log.bounds().head
    [first] = log.append(drafts("a", id="own a"))
    [ended] = log.append([Draft(topics=("closed",), data="b", ended=True)])
    log.stop()
    postgres.ask(_OUTBOX, url=url)  # of a transaction whose number another server does not know
    copy = dump(url)
    newer = connect(url)
    newer.follow(start)
    until(lambda: newer.count() == 3, "the event of the transaction is moved")
    [lost] = newer.append(drafts("lost"))

    restore(copy, target := postgres.new_database())
    again = connect(target)
    follower = again.follow(first.position)
    assert contents(next_events(follower, 2)) == ["b", "c"]
    assert again.append(drafts("a", id="own a"))[0].position == first.position
    assert again.count() == 3
    [new] = again.append(drafts("d"))
    assert new.position > lost.position
    assert contents(next_events(follower, 1)) == ["d"]
    assert contents(again.read(start, MANY)) == ["a", "b", "c", "d"]
    assert again.ends(["closed"])[0].position == ended.position
    assert again.position_of(str(first.position)) == first.position
    assert again.position_of(str(lost.position)) is None
    late = connect(target).follow(lost.position)
    assert isinstance(gap := next(late), Gap)
    assert gap.reason == "unknown"


def test_positions_never_go_back_with_the_clock(
    postgres: PostgresServer, url: str, connect: Connect
) -> None:
    log = connect(url)
    follower = log.follow(log.bounds().head)
    [old] = log.append(drafts("a"))
    postgres.ask(_BEHIND, url=url)
    [new] = log.append(drafts("b"))
    removed = log.remove(Removal("t", old.position, old.position))
    postgres.ask("SELECT tidings.publish('t', 'c')", url=url)
    until(lambda: log.bounds().head > removed.position, "the event of the transaction is moved")
    [last] = log.append(drafts("d"))
    assert old.position < new.position < removed.position < last.position
    assert last.position.ms == old.position.ms
    assert contents(log.read(log.bounds().floor, MANY)) == ["b", "c", "d"]
    assert contents(next_events(follower, 1))[0] == "a"  # and the next one, if it was read with it
