"""The file of an event log, as other programs see and disturb it."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest

from support.processes import state
from support.programs import need
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.broker_process import BrokerProcess


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the file as any other program would."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        yield db


def remove_log(path: Path) -> None:
    """Remove the file, and what lies beside it."""
    for file in path.parent.glob(f"{path.name}*"):
        if file.is_file():
            file.unlink()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the file as another program's transaction would."""
    with opened(path) as db:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("ROLLBACK")


@contextmanager
def stopped_process(log: BrokerProcess) -> Iterator[None]:
    """Keep a process from doing anything."""
    log.process.send_signal(signal.SIGSTOP)
    until(lambda: state(log.process.pid) == "T", "it is stopped")
    try:
        yield
    finally:
        log.process.send_signal(signal.SIGCONT)


@contextmanager
def mounted(folder: Path, *arguments: str) -> Iterator[None]:
    """Mount a file system of its own."""
    mount = need("mount")
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    folder.mkdir(exist_ok=True)
    subprocess.run([mount, *arguments, str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def is_intact(path: Path) -> bool:
    with opened(path) as db:
        db.execute("BEGIN")  # it may be trimmed meanwhile
        [(answer,)] = db.execute("PRAGMA integrity_check")
        [(floor, nth, total)] = db.execute("SELECT floor, nth, total FROM log")
        rows = db.execute("SELECT place, nth, total, size FROM events ORDER BY place").fetchall()
    for row in rows:
        assert floor < row[0]
        nth, total, floor = nth + 1, total + row[3], row[0]
        assert row[1:3] == (nth, total)
    return bool(answer == "ok")
