"""Processes that share an event log in PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.broker_process import broker_processes
from support.postgres_server import running_postgres

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.broker_process import Connect
    from support.postgres_server import PostgresServer


@pytest.fixture(name="connect")
def _connect() -> Iterator[Connect]:
    with broker_processes() as connect:
        yield connect


@pytest.fixture(name="url")
def _url(postgres: PostgresServer) -> str:
    """A new event log on the server of all tests."""
    return postgres.new_log()


@pytest.fixture(name="server", scope="module")
def _server() -> Iterator[PostgresServer]:
    """A server that the tests of a file may disturb."""
    with running_postgres() as server:
        yield server
