"""The file stays within its bounds, and a follower that is overtaken gets a gap."""

from __future__ import annotations

import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import cycle
from typing import TYPE_CHECKING, Any

import pytest

from support.events import all_events, contents, drafts, next_events, number_texts
from support.sqlite_file import is_intact, stopped_process
from support.waiting import until
from webapp.brokers.base import Gap
from webapp.brokers.sqlite.log_table import LogTable
from webapp.brokers.sqlite.rows import encode_row
from webapp.core.events import Draft, EventId

if TYPE_CHECKING:
    from pathlib import Path

    from support.broker_process import Connect


@pytest.mark.parametrize(
    "limits", [{"HISTORY_EVENTS": 500}, {"HISTORY_BYTES": 100_000}, {"HISTORY_AGE": "4s"}]
)
def test_the_log_is_trimmed_while_followers_go_on(
    connect: Connect, path: Path, limits: dict[str, Any]
) -> None:
    here, there = connect(**limits), connect(**limits)
    start = here.bounds().floor
    followers = [here.follow(start), there.follow(start)]
    sizes = []
    for part in range(40):
        data = [f"{number:0100}" for number in range(part * 100, part * 100 + 100)]
        (here, there)[part % 2].append(drafts(*data))
        for follower in followers:
            assert contents(next_events(follower, 100)) == data
        if "HISTORY_AGE" in limits:
            time.sleep(0.1)  # they grow old, but not before their followers have them
        sizes.append(path.stat().st_size + path.with_name("log.db-wal").stat().st_size)
    floor = until(lambda: (f := here.bounds().floor) > start and f, "it is trimmed")
    assert here.position_of(str(start)) is None
    assert there.position_of(str(floor)) == floor or here.bounds().floor > floor
    assert sizes[-1] < 9 << 20
    if "HISTORY_AGE" in limits:
        until(lambda: not all_events(there), "a quiet log is trimmed, too")
        assert here.bounds().floor == here.bounds().head > start
    assert is_intact(path)


def test_the_file_stops_growing(connect: Connect, path: Path) -> None:
    log = connect(HISTORY_EVENTS=2000)
    for _ in range(30):
        log.append(drafts(*["x" * 1000] * 1000))
    assert path.stat().st_size < 12 << 20  # of the 30 MB that were appended
    wal = path.with_name("log.db-wal")
    until(lambda: log.append(drafts("x")) and wal.stat().st_size < 12 << 20, "the burst is over")


def test_the_write_ahead_log_stops_growing_under_constant_reads(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webapp.brokers.sqlite.database._MAX_WAL_BYTES", 8 << 20)
    file, written = LogTable(path, 10, 1 << 30, 3600), threading.Event()
    row = encode_row(Draft(topics=("t",), data="x" * 1_000_000))
    file.append([[row]])

    def read() -> None:
        opened = (closing(sqlite3.connect(path, isolation_level=None)) for _ in range(2))
        with next(opened) as one, next(opened) as other:
            one.execute("BEGIN")
            for old, new in cycle([(one, other), (other, one)]):
                new.execute("BEGIN")
                new.execute("SELECT draft FROM events ORDER BY place LIMIT 2").fetchall()
                old.execute("COMMIT")  # there is always one that reads
                if written.is_set():
                    return

    with ThreadPoolExecutor() as pool:
        reading = pool.submit(read)
        for _ in range(20):
            file.append([[row]])
        written.set()
        reading.result()
    wal = path.with_name(path.name + "-wal")
    assert wal.stat().st_size < 16 << 20
    file.close()


def test_the_newest_event_stays_however_large(connect: Connect) -> None:
    log = connect(HISTORY_BYTES=1000)
    log.append(drafts("small"))
    [event] = log.append(drafts("x" * 5000))
    until(lambda: len(all_events(log)) == 1, "the other is trimmed")
    assert log.position_of(str(event.position))


def test_the_own_id_at_the_floor_is_a_place_and_no_obstacle(connect: Connect) -> None:
    log = connect(HISTORY_EVENTS=1)
    positions = [log.append(drafts(own, id=own))[0].position for own in ("one", "two", "three")]
    until(lambda: log.bounds().floor == positions[1], "two are trimmed")
    assert [log.position_of(own) for own in ("one", "two", "three")] == [None, *positions[1:]]
    assert log.append(drafts("other", id="two"))[0].position > positions[2]


def test_an_overtaken_follower_gets_a_gap(connect: Connect) -> None:
    here, there = connect(HISTORY_EVENTS=100), connect(HISTORY_EVENTS=100)
    follower = there.follow(there.bounds().head)
    here.append(drafts("seen"))
    next_events(follower, 1)
    with stopped_process(there):
        for _ in range(20):
            here.append(drafts(*number_texts(100)))
        until(lambda: len(all_events(here)) <= 110, "it is trimmed")
    gap = next(follower)
    assert isinstance(gap, Gap)
    assert gap.reason == "aged"
    assert gap.position == here.bounds().floor
    assert contents(next_events(follower, 100))[-1] == "99"


def test_a_follower_of_another_log_gets_a_gap(connect: Connect) -> None:
    log = connect()
    [event] = log.append(drafts("a"))
    follower = log.follow(EventId(event.position.ms + 60_000, 0))
    assert next(follower) == Gap(event.position, "unknown")
    log.append(drafts("b"))
    assert contents(next_events(follower, 1)) == ["b"]
