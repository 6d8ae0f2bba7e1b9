"""The body of a request, as it arrives."""

from __future__ import annotations

import fcntl
import socket
import termios
from array import array
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from support.waiting import PATIENCE
from webapp.server.request_body import RequestBody

if TYPE_CHECKING:
    from collections.abc import Iterator

PIECE = 8 << 10


class Connection:
    """A socket whose client has sent some pieces."""

    def __init__(self, client: socket.socket, sock: socket.socket) -> None:
        self.client, self.sock = client, sock

    def received_bytes(self) -> int:
        count = array("i", [0])
        fcntl.ioctl(self.sock.fileno(), termios.FIONREAD, count)
        return count[0]

    def mark_streaming(self, _: object) -> None:
        """It is a pipe."""

    def send(self, count: int) -> None:
        self.client.sendall(b"x" * PIECE * count)

    def body(self, length: int) -> RequestBody:
        unreader = SimpleNamespace(
            read=lambda _, size: self.sock.recv(min(size, PIECE)), unread=lambda _: None
        )
        reader = SimpleNamespace(length=length, unreader=unreader)
        connection: Any = self
        return RequestBody(SimpleNamespace(reader=reader), connection, str(length))


@pytest.fixture(name="connection")
def _connection() -> Iterator[Connection]:
    client, sock = socket.socketpair()
    with client, sock:
        client.settimeout(PATIENCE)
        sock.settimeout(PATIENCE)
        yield Connection(client, sock)


def test_pieces_that_have_arrived_are_joined(connection: Connection) -> None:
    connection.send(12)
    sizes = [len(piece) for piece in connection.body(12 * PIECE).iter_chunks(bool)]
    assert sizes == [8 * PIECE, 4 * PIECE]


def test_a_piece_does_not_wait_for_the_next_one(connection: Connection) -> None:
    connection.send(1)
    pieces = connection.body(3 * PIECE).iter_chunks(bool)
    assert len(next(pieces)) == PIECE
    connection.send(2)
    assert len(next(pieces)) == 2 * PIECE
    assert list(pieces) == []


def test_pieces_below_tls_are_not_joined(connection: Connection) -> None:
    connection.cipher = lambda: None  # type: ignore[attr-defined] # a socket with TLS has it
    connection.send(2)
    sizes = [len(piece) for piece in connection.body(2 * PIECE).iter_chunks(bool)]
    assert sizes == [PIECE, PIECE]
