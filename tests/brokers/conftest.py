"""New event logs, and processes that share them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from support.broker_process import broker_processes
from support.redis_server import running_redis

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.broker_process import Connect


@pytest.fixture(name="url", params=["memory", "sqlite", "redis", "valkey"])
def _url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """One new log."""
    if request.param in {"redis", "valkey"}:
        with running_redis(f"{request.param}-server", tmp_path) as server:
            yield server.url
    else:
        yield {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/log.db"}[request.param]


@pytest.fixture(name="connect")
def _connect(url: str) -> Iterator[Connect]:
    """Start processes that share it: `connect(HISTORY_EVENTS=10)`."""
    with broker_processes() as connect:
        yield partial(connect, url)
