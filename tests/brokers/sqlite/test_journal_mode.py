"""The file is in WAL mode at each start, also after somebody put a copy of it there."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from support.events import all_events, contents, drafts
from support.sqlite_file import is_intact, opened
from support.waiting import PATIENCE
from webapp.brokers.sqlite import database
from webapp.brokers.sqlite.database import Database
from webapp.brokers.sqlite.problems import failure
from webapp.errors import Misconfigured, ServiceUnavailable

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

    import pytest

    from support.broker_process import Connect


def mode(path: Path) -> str:
    with opened(path) as db:
        [(found,)] = db.execute("PRAGMA journal_mode")
    return str(found)


def restore(path: Path) -> None:
    """Put a copy of the file there, as a restore does."""
    copy = path.with_name("copy")
    with opened(path) as db:
        db.execute("VACUUM INTO ?", (str(copy),))
    for file in path.parent.glob(f"{path.name}-*"):
        file.unlink()
    copy.rename(path)


def test_a_restored_copy_is_set_to_wal_mode_again(connect: Connect, path: Path) -> None:
    log = connect()
    log.append(drafts("kept"))
    log.stop()
    restore(path)
    assert mode(path) == "delete"
    here, there = connect(), connect()
    asked = [log.start("append", drafts("new")) for log in (here, there)]
    for future in asked:
        future.result(PATIENCE)
    assert mode(path) == "wal"
    assert contents(all_events(here)) == ["kept", "new", "new"]
    assert is_intact(path)


def create(db: sqlite3.Connection) -> None:
    db.execute("CREATE TABLE t (x)")


def test_a_file_that_cannot_be_set_to_wal_mode_is_used_with_one_warning(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(database, "_BUSY_TIMEOUT_MS", 20)
    first = Database(path, create, "event log")
    with first.connection():
        pass
    first.close()
    restore(path)
    file = Database(path, create, "event log")
    with opened(path) as reader, caplog.at_level(logging.WARNING):
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM t").fetchall()
        with file.connection() as one, file.connection() as two:
            assert one is not two
            assert one.execute("SELECT count(*) FROM t").fetchall() == [(0,)]
    [warning] = caplog.messages
    assert warning.startswith(f"{path} stays in journal mode delete, and not WAL")
    file.close()


def test_a_file_system_without_shared_memory_is_named_as_the_cause(path: Path) -> None:
    for problem in ("SQLITE_IOERR_SHMMAP", "SQLITE_IOERR_SHMOPEN", "SQLITE_IOERR_SHMLOCK"):
        refused = failure(problem, "event log", path)
        assert isinstance(refused, Misconfigured)
        assert f"{path}: The event log's file is on a file system without shared memory" in str(
            refused
        )
    for problem in ("SQLITE_IOERR_SHMSIZE", "SQLITE_IOERR_WRITE"):  # a full disk, for one
        assert isinstance(failure(problem, "event log", path), ServiceUnavailable)
