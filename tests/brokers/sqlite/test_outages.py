"""Publishers wait while the file is locked, away, or on a disk that is full or fails."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

import pytest

from support.events import all_events, contents, drafts, next_events, number_texts
from support.sqlite_file import is_intact, locked, mounted, stopped_process
from support.waiting import PATIENCE
from webapp.errors import ServiceUnavailable

if TYPE_CHECKING:
    from pathlib import Path

    from support.broker_process import BrokerProcess, Connect
    from webapp.core.events import Draft


def fill_disk(log: BrokerProcess, part: list[Draft]) -> int:
    """Publish until the disk is full; return how many were answered."""
    for answered in range(0, 1_000_000, len(part)):
        try:
            log.append(part)
        except ServiceUnavailable as error:
            assert "full" in str(error)  # noqa: PT017 - how many it takes is not known
            return answered
    pytest.fail("the disk is never full")


def test_a_locked_file_stops_publishers_for_as_long_as_it_is(connect: Connect, path: Path) -> None:
    log = connect()
    follower = log.follow(log.bounds().head)
    log.append(drafts("before"))
    with locked(path):
        asked = [log.start("append", drafts(number)) for number in number_texts(3)]
        for future in asked:
            with pytest.raises(ServiceUnavailable, match="locked"):
                future.result(PATIENCE)
        assert contents(all_events(log)) == ["before"]
    log.append(drafts("after"))
    assert contents(all_events(log)) == contents(next_events(follower, 2)) == ["before", "after"]


def test_a_full_disk_stops_publishers_until_there_is_room(connect: Connect, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with mounted(disk, "-t", "tmpfs", "-o", "size=2m", "none"):
        log = connect(disk / "log.db")
        start = log.bounds().head
        follower = log.follow(start)
        ballast = disk / "ballast"
        ballast.write_bytes(b"x" * 1_000_000)
        part = drafts(*["x" * 10_000] * 5)
        answered = fill_disk(log, part)
        assert len(all_events(log)) == answered
        with pytest.raises(ServiceUnavailable, match="full"):
            log.append(part)
        ballast.unlink()
        log.append(drafts("room"))
        assert contents(next_events(follower, answered + 1))[-1] == "room"
        assert is_intact(disk / "log.db")
        log.stop()


def test_a_file_that_is_away_for_a_while_is_waited_for(connect: Connect, path: Path) -> None:
    here, there = connect(), connect()
    follower = there.follow(here.bounds().head)
    here.append(drafts("before"))
    next_events(follower, 1)
    with stopped_process(there):  # it would make another file meanwhile
        away = path.rename(path.with_name("away"))
        path.mkdir()
    for log in (here, there):
        with pytest.raises(ServiceUnavailable, match="names a folder"):
            log.append(drafts("refused"))
        with pytest.raises(ServiceUnavailable, match="names a folder"):
            log.bounds()
    with stopped_process(there):
        path.rmdir()
        away.rename(path)
    here.append(drafts("after"))
    assert contents(next_events(follower, 1)) == ["after"]
    assert contents(all_events(there)) == ["before", "after"]
    assert is_intact(path)


def test_a_disk_that_fails_stops_publishers_until_it_works(connect: Connect, path: Path) -> None:
    log = connect()
    follower = log.follow(log.bounds().head)
    log.append(drafts("before"))
    size = path.with_name("log.db-wal").stat().st_size
    process = log.process.pid
    resource.prlimit(process, resource.RLIMIT_FSIZE, (size + 5000, resource.RLIM_INFINITY))
    with pytest.raises(ServiceUnavailable, match="SQLITE_IOERR"):
        log.append(drafts("x" * 100_000))
    assert contents(all_events(log)) == ["before"]
    resource.prlimit(process, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    log.append(drafts("after"))
    assert contents(all_events(log)) == contents(next_events(follower, 2)) == ["before", "after"]
    assert is_intact(path)
