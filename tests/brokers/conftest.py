"""New event logs, and processes that share them."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest

from support.broker_process import broker_processes
from support.postgres_server import running_postgres
from support.redis_server import running_redis

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.broker_process import BrokerProcess, Connect
    from support.postgres_server import PostgresServer

_BROKERS = ["memory", "sqlite", "redis", "valkey", "postgres"]


@contextmanager
def _new_log(broker: str, request: pytest.FixtureRequest, folder: Path) -> Iterator[str]:
    if broker == "postgres":
        yield request.getfixturevalue("postgres").new_log()
    elif broker in {"redis", "valkey"}:
        with running_redis(f"{broker}-server", folder) as server:
            yield server.url
    else:
        yield {"memory": "memory://", "sqlite": f"sqlite:///{folder}/log.db"}[broker]


@pytest.fixture(name="postgres", scope="session")
def _postgres() -> Iterator[PostgresServer]:
    """One server for all tests that do not disturb it."""
    with running_postgres() as server:
        yield server


@pytest.fixture(name="url", params=_BROKERS)
def _url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """One new log."""
    with _new_log(request.param, request, tmp_path) as url:
        yield url


@pytest.fixture(name="indexed", params=_BROKERS)
def _indexed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BrokerProcess]:
    """A process with a new log of 60 events that has an index by topic."""
    with _new_log(request.param, request, tmp_path) as url, broker_processes() as connect:
        yield connect(url, HISTORY_EVENTS=60)


@pytest.fixture(name="connect")
def _connect(url: str) -> Iterator[Connect]:
    """Start processes that share it: `connect(HISTORY_EVENTS=10)`."""
    with broker_processes() as connect:
        yield partial(connect, url)
