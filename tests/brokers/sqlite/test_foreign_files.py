"""Files that were removed, put back, damaged, or are another program's."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from support.events import MANY, all_events, contents, drafts, next_events, number_texts
from support.sqlite_file import is_intact, mounted, opened, remove_log, stopped_process
from webapp.brokers.base import Gap
from webapp.core.events import EventId
from webapp.errors import Misconfigured, ServiceUnavailable

if TYPE_CHECKING:
    from pathlib import Path

    from support.broker_process import Connect


def test_a_file_that_was_removed_is_created_again(connect: Connect, path: Path) -> None:
    here, there = connect(), connect()
    follower = there.follow(here.bounds().head)
    here.append(drafts("lost"))
    next_events(follower, 1)
    with stopped_process(there):  # it would make another file meanwhile
        remove_log(path)
    gap = next(follower)
    assert isinstance(gap, Gap)
    assert gap.position == here.bounds().floor
    here.append(drafts("new"))
    assert contents(next_events(follower, 1)) == ["new"]
    assert contents(all_events(here)) == ["new"]
    assert is_intact(path)


def test_a_copy_that_was_made_while_it_grew_can_be_put_back(connect: Connect, path: Path) -> None:
    log, copy = connect(), path.with_name("copy.db")
    [kept] = log.append(drafts("kept"))
    with opened(path) as db, opened(copy) as other:
        db.backup(other)
    [lost] = log.append(drafts("lost"))
    log.stop()
    remove_log(path)
    copy.rename(path)
    log = connect()
    assert contents(all_events(log)) == ["kept"]
    assert (log.position_of(str(kept.position)), log.position_of(str(lost.position))) == (
        kept.position,
        None,
    )
    [new] = log.append(drafts("new"))
    assert new.position > lost.position
    assert is_intact(path)


@pytest.mark.parametrize(("version", "said"), [(99, "newer version"), (1, "before the first")])
def test_a_file_of_another_version_is_refused(
    connect: Connect, path: Path, version: int, said: str
) -> None:
    connect().bounds()
    with opened(path) as db:
        db.execute(f"PRAGMA user_version = {version}")
    with pytest.raises(Misconfigured, match=said):
        connect().bounds()


def test_another_programs_database_is_left_alone(connect: Connect, path: Path) -> None:
    path.parent.mkdir()
    with opened(path) as db:
        db.execute("CREATE TABLE mine (a)")
    before = path.read_bytes()
    with pytest.raises(Misconfigured, match="another program's"):
        connect().bounds()
    assert path.read_bytes() == before


def test_what_is_no_database_is_refused(connect: Connect, path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"a text, not a database\n" * 1000)
    with pytest.raises(Misconfigured, match="not an SQLite database"):
        connect().bounds()
    with pytest.raises(Misconfigured, match="names a folder"):
        connect(path.parent).bounds()
    with pytest.raises(Misconfigured, match="cannot be opened"):
        connect(path / "log.db").bounds()


def test_a_file_that_cannot_be_written_is_refused(
    connect: Connect, path: Path, tmp_path: Path
) -> None:
    connect().append(drafts("a"))
    view = tmp_path / "view"
    with mounted(view, "--bind", str(path.parent)):
        subprocess.run(["mount", "-o", "remount,ro,bind", str(view)], check=True)
        with pytest.raises(Misconfigured, match="cannot be"):
            connect(view / "log.db").bounds()


def test_a_damaged_file_is_reported(connect: Connect, path: Path) -> None:
    log = connect()
    log.append(drafts(*number_texts(100)))
    log.stop()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    with pytest.raises(ServiceUnavailable, match="damaged"):
        connect().bounds()


def test_a_damaged_event_is_left_out(connect: Connect, path: Path) -> None:
    log = connect()
    start = log.bounds().head
    events = log.append(drafts(*number_texts(6)))
    damage: list[Any] = ["no draft", '["t"]', "7\n7", b"\xff\xfe"]
    with opened(path) as db:
        for event, text in zip(events[1:5], damage, strict=True):
            key = event.position.ms << 20 | event.position.seq
            db.execute("UPDATE events SET draft = ? WHERE place = ?", (text, key))
    assert contents(log.read(start, MANY)) == ["0", "5"]
    assert contents(log.before(EventId(1 << 60, 0), 10, MANY)) == ["0", "5"]
    assert contents(next_events(log.follow(start), 2)) == ["0", "5"]
    assert contents(log.read(start, 1)) == ["0"]
    assert contents(log.read(events[0].position, 1)) == ["5"]
