"""Connections that wait in the event loop of their thread, where gevent has not patched psycopg's
waiting.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import psycopg
from gevent.select import select

from ...loop_thread import has_gevent
from ..blocking import Blocking

_READ, _WRITE = 1, 2  # what a step of psycopg waits for


class _CooperativeConnection(psycopg.Connection[Any]):
    def wait(self, gen: Any, interval: float = 0.0, timeout: float | None = None) -> Any:
        """Take all steps of an operation; between two, wait for the server."""
        if timeout is not None:  # only while it looks for notifications, without waiting
            return super().wait(gen, interval, timeout)
        socket = self.pgconn.socket
        try:
            wanted = next(gen)
            while True:
                wanted = gen.send(_wait(socket, wanted))
        except StopIteration as end:
            return end.value


def _wait(socket: int, wanted: int) -> int:
    readable, writable, _ = select(
        [socket] if wanted & _READ else [], [socket] if wanted & _WRITE else [], []
    )
    return (_READ if readable else 0) | (_WRITE if writable else 0)


def connect(where: str, **options: Any) -> psycopg.Connection[Any]:
    """Return a new connection, as `psycopg.connect` does."""
    if has_gevent():
        return psycopg.connect(where, **options)
    threads = Blocking(1)
    try:
        return threads.call(partial(_CooperativeConnection.connect, where, **options))
    finally:
        threads.close()
