"""How the worker accepts connections."""

from __future__ import annotations

import socket
from collections import Counter
from contextlib import ExitStack
from typing import Any

import gevent
import pytest

from webapp.server.acceptor import Acceptor


def test_a_few_connections_are_accepted_in_each_turn_of_the_loop() -> None:
    turns: list[int] = []

    def handle(client: socket.socket, _: Any) -> None:
        turns.append(gevent.get_hub().loop.iteration)
        client.close()

    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=20))
        listener.settimeout(0)
        for _ in range(20):
            stack.enter_context(socket.create_connection(listener.getsockname()))
        acceptor = Acceptor(
            listener, handle, lambda: False, lambda: pytest.fail("there are files left")
        )
        acceptor.start()
        stack.callback(acceptor.stop)
        with gevent.Timeout(10):
            while len(turns) < 20:
                gevent.sleep(0.001)
    assert max(Counter(turns).values()) == Acceptor.max_accept < 20
