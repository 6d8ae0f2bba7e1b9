"""Which connections of a worker end when it has no files left."""

from __future__ import annotations

from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import gevent
import pytest
from gevent.socket import socketpair

from support.waiting import PATIENCE
from webapp.config.settings import Settings
from webapp.server.open_connections import OpenConnections
from webapp.server.stream_counts import StreamCounts


@pytest.fixture(name="ended")
def _ended() -> list[str]:
    """Why connections were ended."""
    return []


@pytest.fixture(name="connections")
def _connections(ended: list[str]) -> OpenConnections:
    refused: Any = SimpleNamespace(add=lambda _, reason: ended.append(reason))
    return OpenConnections(Settings(), 100, 60, StreamCounts(None), refused)


def test_a_connection_that_waits_for_its_client_to_close_makes_room(
    connections: OpenConnections, ended: list[str]
) -> None:
    client, server = socketpair()
    with client:
        connection = connections.add(server)
        connection.send_last(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        closing = gevent.spawn(connection.close)
        gevent.idle()
        connections.free_files(1)
        closing.get(timeout=PATIENCE)
    assert ended == ["connections"]


def test_a_connection_that_was_served_goes_after_those_that_were_not(
    connections: OpenConnections,
) -> None:
    gone: list[str] = []

    def wait(name: str, *, served: bool) -> None:
        """Wait for a client that sends nothing."""
        client, server = socketpair()
        stack.push(client)
        connection = connections.add(server)
        if served:
            connection.begin_request()

        def receive() -> None:
            assert connection.recv(1) == b""
            gone.append(name)
            connection.close()

        waiting.append(gevent.spawn(receive))
        gevent.idle()

    waiting: list[gevent.Greenlet[[], None]] = []
    with ExitStack() as stack:
        wait("first served", served=True)
        wait("first stranger", served=False)
        wait("second served", served=True)
        wait("second stranger", served=False)
        for count in range(1, 5):
            connections.free_files(1)
            gevent.wait(waiting, timeout=PATIENCE, count=count)
        connections.free_files(1)  # there is none
    assert gone == ["first stranger", "second stranger", "first served", "second served"]
