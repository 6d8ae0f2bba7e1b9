"""New servers, processes that share the event log in them, a network between."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from support.broker_process import remotes
from support.faulty_network import Network
from support.redis_server import IN_MEMORY, LogServer, running_log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.broker_process import Remote

    Connect = Callable[..., Remote]
    Run = Callable[..., LogServer]


@pytest.fixture(name="run")
def _run(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Run]:
    """Start servers: `run("--maxmemory", "4mb")`."""
    program = getattr(request, "param", "redis-server")
    with ExitStack() as stack:

        def run(*options: str) -> LogServer:
            folder = tmp_path / str(time.monotonic_ns())
            return stack.enter_context(running_log(program, folder, *options))

        yield run


@pytest.fixture(name="server")
def _server(run: Run) -> LogServer:
    """One that keeps all in memory."""
    return run(*IN_MEMORY)


@pytest.fixture(name="connect")
def _connect() -> Iterator[Connect]:
    with remotes() as connect:
        yield connect


@pytest.fixture(name="network")
def _network(server: LogServer) -> Iterator[Network]:
    network = Network(server.port)
    yield network
    network.close()
