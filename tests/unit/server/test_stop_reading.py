"""What a client gets that is sending in the moment in which the worker stops."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import gevent
import pytest
from gevent import socket

from support.waiting import PATIENCE, until
from webapp.config.settings import Settings
from webapp.errors import ServiceUnavailable
from webapp.server.connection import ClientConnection
from webapp.server.waiters import Waiters

if TYPE_CHECKING:
    from collections.abc import Iterator

REQUEST: Any = SimpleNamespace(version=(1, 1))


@pytest.fixture(name="pair")
def _pair() -> Iterator[tuple[socket.socket, ClientConnection]]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with socket.create_connection(listener.getsockname()) as client:
            server, _ = listener.accept()
            with server:
                yield client, ClientConnection(server, Settings(), 60, Waiters())


@pytest.fixture(name="client")
def _client(pair: tuple[socket.socket, ClientConnection]) -> socket.socket:
    return pair[0]


@pytest.fixture(name="connection")
def _connection(pair: tuple[socket.socket, ClientConnection]) -> ClientConnection:
    return pair[1]


def test_a_wait_for_a_request_ends(connection: ClientConnection) -> None:
    receiving = gevent.spawn(connection.recv, 100)
    gevent.idle()
    connection.stop_reading()
    assert receiving.get(timeout=PATIENCE) == b""


def test_a_request_that_arrived_before_is_served(
    client: socket.socket, connection: ClientConnection
) -> None:
    client.sendall(b"header")
    until(connection.received_bytes, "the header arrives")
    connection.stop_reading()
    assert connection.recv(100) == b"header"
    connection.begin_body(REQUEST)
    client.sendall(b"body")
    assert connection.recv(100) == b"body"


def test_a_request_whose_header_arrives_in_this_moment_is_told_to_come_again(
    client: socket.socket, connection: ClientConnection
) -> None:
    receiving = gevent.spawn(connection.recv, 100)
    gevent.idle()
    connection.stop_reading()
    client.sendall(b"header")
    assert receiving.get(timeout=PATIENCE) == b"header"
    connection.begin_body(REQUEST)
    with pytest.raises(ServiceUnavailable, match="Send the request again") as refusal:
        connection.recv(100)
    assert refusal.value.reason == "drain"
