"""Waits for the server's notifications, over a connection that other calls use too.

Through a pooler in transaction mode none would arrive, though the server accepts `LISTEN`: then it
waits for some milliseconds.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import gevent
from gevent.event import Event as Signal

if TYPE_CHECKING:
    from psycopg import Connection

    from .database import Channel, Database

logger = logging.getLogger(__name__)

POLL_INTERVAL_S = 0.02


class Notifications:
    """The notifications that a connection gets.

    :param names: of the server's channels that it listens to.
    """

    def __init__(self, database: Database, channel: Channel, *names: str) -> None:
        self._database, self._channel, self._names = database, channel, names
        self._connection: Connection | None = None  # the one that listens
        self._watcher: Any = None
        self._readable = Signal()
        self._arrived = set[str]()

    def prepare(self) -> bool:
        """Listen, if that is not done. Returns whether it was not: then any may have been missed.

        :raises ServiceUnavailable: the server does not answer.
        """
        connection = self._channel.connection
        if connection is self._connection:
            return False
        self.stop()
        self._arrived.clear()
        if self._database.listens is None:
            self._database.listens = self._is_direct()
            if not self._database.listens:
                logger.warning(
                    "A pooler stands before the event log's server, so this process asks for new"
                    " events every %.0f ms. If the pooler keeps sessions, add listen=on to"
                    " TIDINGS_BROKER_URL.",
                    POLL_INTERVAL_S * 1000,
                )
        if self._database.listens:
            connection.add_notify_handler(lambda it: self._arrived.add(it.channel))
            self._channel.call("; ".join(f"LISTEN {name}" for name in self._names))
            self._watcher = gevent.get_hub().loop.io(connection.fileno(), 1)
        self._connection = connection
        return True

    def wait(self, name: str, timeout: float) -> None:
        """Wait for a notification, or some seconds. One that came since the last call counts.

        :raises ServiceUnavailable: the connection is lost.
        """
        self._readable.clear()
        watcher = self._watcher
        if not watcher:
            self._readable.wait(POLL_INTERVAL_S)
            return
        self._receive()
        if name not in self._arrived:
            watcher.start(self._readable.set)
            try:
                self._readable.wait(timeout)
            finally:
                if watcher is self._watcher:  # `stop` has closed it otherwise
                    watcher.stop()
            self._receive()
        self._arrived.clear()

    def wake(self) -> None:
        """End the waiting."""
        self._readable.set()

    def stop(self) -> None:
        """Watch the connection no more."""
        watcher, self._watcher = self._watcher, None
        if watcher:
            watcher.close()

    def _receive(self) -> None:
        self._arrived.update(self._channel.receive())

    def _is_direct(self) -> bool:
        """Whether no pooler stands between: a pooler tells its clients other process numbers."""
        [(pid,)] = self._channel.call("SELECT pg_backend_pid()")
        return bool(pid == self._channel.connection.info.backend_pid)
