"""New servers, processes that share the event log in them, a network between."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from support.broker_process import broker_processes
from support.faulty_network import FaultyNetwork
from support.redis_server import IN_MEMORY, RedisServer, running_redis

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.broker_process import Connect
    from support.redis_server import Run


@pytest.fixture(name="run")
def _run(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Run]:
    """Start servers: `run("--maxmemory", "4mb")`."""
    program = getattr(request, "param", "redis-server")
    with ExitStack() as stack:

        def run(*options: str) -> RedisServer:
            folder = tmp_path / str(time.monotonic_ns())
            return stack.enter_context(running_redis(program, folder, *options))

        yield run


@pytest.fixture(name="server")
def _server(run: Run) -> RedisServer:
    """One that keeps all in memory."""
    return run(*IN_MEMORY)


@pytest.fixture(name="connect")
def _connect() -> Iterator[Connect]:
    with broker_processes() as connect:
        yield connect


@pytest.fixture(name="network")
def _network(server: RedisServer) -> Iterator[FaultyNetwork]:
    network = FaultyNetwork(server.port)
    yield network
    network.close()
