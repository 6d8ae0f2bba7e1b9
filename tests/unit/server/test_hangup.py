"""How the hub notices that a client hung up."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from support.waiting import until
from webapp.server.hangup import has_hung_up

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(name="ends")
def _ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The client's socket and the hub's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
    with client, accepted:
        yield client, accepted


def test_a_look_for_a_hangup_leaves_the_next_request_unread(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    client, accepted = ends
    assert not has_hung_up(accepted)
    client.sendall(b"GET / HTTP/1.1\r\n")
    assert accepted.recv(1, socket.MSG_PEEK)
    assert not has_hung_up(accepted)
    client.shutdown(socket.SHUT_WR)
    until(lambda: has_hung_up(accepted), "it is noticed, behind unread bytes, too")
    assert accepted.recv(100) == b"GET / HTTP/1.1\r\n"


def test_a_reset_is_a_hangup(ends: tuple[socket.socket, socket.socket]) -> None:
    client, accepted = ends
    accepted.sendall(b"x")
    client.recv(1, socket.MSG_PEEK)
    client.close()  # with unread bytes
    until(lambda: has_hung_up(accepted), "it is noticed")
