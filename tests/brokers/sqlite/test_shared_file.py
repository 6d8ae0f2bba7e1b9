"""Several processes share one event log in a file."""

from __future__ import annotations

import stat
import time
from typing import TYPE_CHECKING

import gevent
import pytest
from gevent.queue import Queue

from support.events import all_events, contents, drafts, next_events, number_texts
from support.sqlite_file import is_intact, locked, opened
from support.waiting import PATIENCE, until
from webapp.brokers.sqlite.broker import SqliteBroker
from webapp.core.events import EventId
from webapp.errors import Conflict, ServiceUnavailable

if TYPE_CHECKING:
    from pathlib import Path

    from support.broker_process import Connect
    from webapp.brokers.base import Followed


def test_processes_that_open_a_new_file_at_once_share_it(connect: Connect, path: Path) -> None:
    logs = [connect() for _ in range(4)]
    asked = [log.start("append", drafts(str(number))) for number, log in enumerate(logs)]
    positions = [future.result(PATIENCE)[0].position for future in asked]
    assert len(set(positions)) == 4
    assert [event.position for event in all_events(logs[0])] == sorted(positions)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_an_empty_file_becomes_a_log(connect: Connect, path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    assert connect().append(drafts("a"))


def test_every_process_sees_one_order(connect: Connect, path: Path) -> None:
    logs = [connect() for _ in range(3)]
    start = logs[0].bounds().head
    followers = [log.follow(start) for log in logs]
    asked = [
        log.start("append", drafts(f"{name}-{number}"))
        for number in range(200)
        for name, log in enumerate(logs)
    ]
    orders = [contents(next_events(follower, 600)) for follower in followers]
    assert orders[0] == orders[1] == orders[2]
    assert len(set(orders[0])) == 600
    events = [future.result(PATIENCE)[0] for future in asked]
    assert orders[0] == contents(sorted(events, key=lambda event: event.position))
    assert is_intact(path)


def test_an_own_id_that_processes_race_for_is_appended_once(connect: Connect) -> None:
    logs = [connect() for _ in range(4)]
    start = logs[0].bounds().head
    for number in range(50):
        same = drafts("the same", id=f"own {number}")
        asked = [log.start("append", same) for log in logs for _ in range(2)]
        assert len({future.result(PATIENCE)[0].position for future in asked}) == 1
    found = all_events(logs[0])
    assert [event.id for event in found] == [f"own {number}" for number in range(50)]
    assert contents(next_events(logs[3].follow(start), 50)) == ["the same"] * 50


def test_drafts_of_concurrent_publishers_share_a_transaction(connect: Connect, path: Path) -> None:
    log = connect()
    log.append(drafts("first", id="taken"))
    wal = path.with_name("log.db-wal")
    before = wal.stat().st_size
    with locked(path):
        asked = [log.start("append", drafts(number)) for number in number_texts(50)]
        refused = log.start("append", [*drafts("half"), *drafts("other", id="taken")])
        assert log.bounds()  # they have been read when this was answered
    assert contents([future.result(PATIENCE)[0] for future in asked]) == number_texts(50)
    with pytest.raises(Conflict):
        refused.result(PATIENCE)
    first, *others = contents(all_events(log))
    assert first == "first"
    assert sorted(others, key=int) == number_texts(50)  # they came at once: in any order
    pages = (wal.stat().st_size - before) / 4096
    assert pages < 25  # each alone would write two


def test_a_killed_process_loses_nothing_that_was_answered(connect: Connect, path: Path) -> None:
    log, other = connect(), connect()
    follower = other.follow(other.bounds().head)
    asked = [log.start("append", drafts(number)) for number in number_texts(3000)]
    until(lambda: sum(it.done() for it in asked) > 300, "some were answered")  # in any order
    log.process.kill()
    log.process.wait()
    log._reader.join()
    answered = [future.result() for future in asked if future.done()]
    assert len(answered) > 300
    found = all_events(other)
    assert {event.position for [event] in answered} <= {event.position for event in found}
    assert len(set(contents(found))) == len(found)
    assert contents(next_events(follower, len(found))) == contents(found)
    assert is_intact(path)
    assert other.append(drafts("and on"))


def test_a_log_goes_on_where_it_was_after_a_restart(connect: Connect) -> None:
    log = connect()
    events = log.append(drafts("a", "b", id=None))
    log.stop()
    again = connect()
    assert again.bounds().head == events[-1].position
    assert [event.position for event in all_events(again)] == [event.position for event in events]
    assert again.append(drafts("c"))[0].position > events[-1].position


def test_places_never_go_backwards_with_the_clock(connect: Connect, path: Path) -> None:
    log = connect()
    log.bounds()
    future = (time.time_ns() // 1_000_000 + 86_400_000) << 20
    with opened(path) as db:
        db.execute("UPDATE log SET floor = ?", (future - 1,))
    first, second = log.append(drafts("a", "b"))
    assert second.position == EventId(future >> 20, 1)
    assert first.position == EventId(future >> 20, 0)  # its sequence was full: it carries


def test_a_closed_log_refuses_and_its_followers_end(path: Path) -> None:
    log = SqliteBroker(path, 10, 1000, 60)
    found: Queue[Followed] = Queue()
    start = log.bounds().head
    followers = [gevent.spawn(lambda: list(map(found.put, log.follow(start)))) for _ in range(2)]
    log.append(drafts("a"))
    for _ in followers:
        assert contents(next_events(iter([found.get(timeout=PATIENCE)]), 1)) == ["a"]
    log.close()
    log.close()
    assert len(gevent.joinall(followers, timeout=PATIENCE)) == 2
    for call in (log.bounds, lambda: log.append(drafts("a"))):
        with pytest.raises(ServiceUnavailable, match="stopping"):
            call()
    assert list(path.with_name("log.db.wake").iterdir()) == []
