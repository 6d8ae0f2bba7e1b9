"""Notices that a client has left, where the hub's thread does not read from its connection."""

from __future__ import annotations

import os
import socket
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import gevent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_READABLE = 1  # what the event loop watches for


class ClientWatch:
    """Watches the connection of a client.

    :param fd: the connection, of which a copy is made; None: the server does not show it.
    :param is_connected: what the server says of it.
    """

    def __init__(self, fd: int | None, is_connected: Callable[[], bool] = lambda: True) -> None:
        self.is_connected = is_connected
        """Whether the client is connected, as far as the server says so."""
        self._socket: socket.socket | None = None
        with suppress(OSError):  # it is closed
            self._socket = None if fd is None else socket.socket(fileno=os.dup(fd))

    @contextmanager
    def watched(self, hung_up: Callable[[], None]) -> Iterator[None]:
        """Call a function when the client hangs up, in the thread of the loop."""
        if self._socket is None:
            yield
            return
        watcher = gevent.get_hub().loop.io(self._socket.fileno(), _READABLE)
        watcher.start(self._look, watcher, hung_up)
        try:
            yield
        finally:
            watcher.close()

    def _look(self, watcher: Any, hung_up: Callable[[], None]) -> None:
        """Look at what has arrived, without taking it."""
        try:
            found = self._socket and self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            found = b""
        watcher.stop()  # the next request may have arrived: the end of the connection lies behind
        if not found:
            hung_up()

    def disconnect(self) -> None:
        """End the connection, also while the server writes to it."""
        if self._socket:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the copy of the connection."""
        if self._socket:
            self._socket.close()
