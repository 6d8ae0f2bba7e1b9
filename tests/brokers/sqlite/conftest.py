"""A new file, and processes that share the event log in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support.broker_process import BrokerProcess, broker_processes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.broker_process import Connect


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "log.db"


@pytest.fixture(name="connect")
def _connect(path: Path) -> Iterator[Connect]:
    """Start processes that share a log: `connect(HISTORY_EVENTS=10)`."""
    with broker_processes() as start:

        def connect(at: Path = path, **limits: Any) -> BrokerProcess:
            return start(f"sqlite:///{at}", **limits)

        yield connect
