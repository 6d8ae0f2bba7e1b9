"""How the worker accepts connections."""

from __future__ import annotations

import socket
import time
from collections import Counter
from contextlib import ExitStack
from itertools import count
from typing import Any

import gevent
import pytest

from support.waiting import PATIENCE
from webapp.server.acceptor import Acceptor


class Even:
    """The counts of workers that have as many streams as each other."""

    def is_ahead(self) -> bool:
        return False

    def least(self) -> int:
        return 0


class Ahead(Even):
    """Those of a worker that has more streams than another one, which accepts no connections."""

    def is_ahead(self) -> bool:
        return True


class AheadOfABusyOne(Ahead):
    """The same, and the other worker accepts connections all the time."""

    def __init__(self) -> None:
        self._numbers = count()

    def least(self) -> int:
        return next(self._numbers)


class Room:
    """Connections of a worker that has room."""

    def __init__(self, counts: Even) -> None:
        self.counts = counts

    def is_full(self) -> bool:
        return False

    def free_files(self) -> None:
        pytest.fail("there are files left")


def accepting(counts: Even, number: int) -> list[tuple[int, float]]:
    """Return in which turn of the loop, and when, each of some connections was accepted."""
    accepted: list[tuple[int, float]] = []

    def handle(client: socket.socket, _: Any) -> None:
        accepted.append((gevent.get_hub().loop.iteration, time.monotonic()))
        client.close()

    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=20))
        listener.settimeout(0)
        for _ in range(number):
            stack.enter_context(socket.create_connection(listener.getsockname()))
        acceptor = Acceptor(listener, handle, Room(counts))
        acceptor.start()
        stack.callback(acceptor.stop)
        with gevent.Timeout(PATIENCE):
            while len(accepted) < number:
                gevent.sleep(0.001)
    return accepted


def steps_back(counts: Even, seconds: float) -> int:
    """Return how many times a worker waits before it has accepted three connections."""
    began = time.monotonic()
    return int((accepting(counts, 3)[2][1] - began) / seconds)


def test_a_worker_with_more_streams_lets_others_accept_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("webapp.server.acceptor._STEP_BACK_S", 0.05)
    assert max(Counter(turn for turn, _ in accepting(Ahead(), 3)).values()) == 1
    assert steps_back(Ahead(), 0.05) >= 3


def test_a_worker_with_more_streams_waits_longer_while_another_accepts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("webapp.server.acceptor._STEP_BACK_S", 0.01)
    assert steps_back(AheadOfABusyOne(), 0.01) >= 12


def test_a_few_connections_are_accepted_in_each_turn_of_the_loop() -> None:
    turns = Counter(turn for turn, _ in accepting(Even(), 20))
    assert max(turns.values()) == Acceptor.max_accept < 20
