"""How the worker accepts connections."""

from __future__ import annotations

import socket
import time
from collections import Counter
from contextlib import ExitStack
from typing import Any

import gevent
import pytest

from webapp.server.acceptor import Acceptor


class Room:
    """Connections of a worker that has room."""

    def is_full(self) -> bool:
        return False

    def is_ahead(self) -> bool:
        return False

    def free_files(self) -> None:
        pytest.fail("there are files left")


class Ahead(Room):
    """Connections of a worker that has more streams than another one."""

    def is_ahead(self) -> bool:
        return True


def accepting(connections: Room, count: int) -> list[tuple[int, float]]:
    """Return in which turn of the loop, and when, each of some connections was accepted."""
    accepted: list[tuple[int, float]] = []

    def handle(client: socket.socket, _: Any) -> None:
        accepted.append((gevent.get_hub().loop.iteration, time.monotonic()))
        client.close()

    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=20))
        listener.settimeout(0)
        for _ in range(count):
            stack.enter_context(socket.create_connection(listener.getsockname()))
        acceptor = Acceptor(listener, handle, connections)
        acceptor.start()
        stack.callback(acceptor.stop)
        with gevent.Timeout(10):
            while len(accepted) < count:
                gevent.sleep(0.001)
    return accepted


def test_a_worker_with_more_streams_lets_others_accept_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("webapp.server.acceptor._STEP_BACK_S", 0.05)
    began = time.monotonic()
    accepted = accepting(Ahead(), 3)
    assert max(Counter(turn for turn, _ in accepted).values()) == 1
    assert accepted[2][1] - began > 0.1


def test_a_few_connections_are_accepted_in_each_turn_of_the_loop() -> None:
    turns = Counter(turn for turn, _ in accepting(Room(), 20))
    assert max(turns.values()) == Acceptor.max_accept < 20
