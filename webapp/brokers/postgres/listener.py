"""The connection of a follower: it reads the event log, and waits for what follows.

The server notifies it of new events and notices. Through a pooler in transaction mode no
notification would arrive, though the server accepts `LISTEN`: then it looks every few milliseconds.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import gevent
from gevent.event import Event as Signal

from .database import Channel
from .rows import parse_page, to_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from psycopg import Connection

    from ...core.events import EventId
    from .database import Database
    from .rows import Page

logger = logging.getLogger(__name__)

_PAGE_BYTES = 256 << 10
_TICK_S = 1.0  # after so long without a notification it looks: one may have been lost
_POLL_INTERVAL_S = 0.02
_CHANNELS = ("tidings", "tidings_notices")
_READ = "SELECT * FROM tidings.read_after(%s, %s)"


class Listener:
    """Reads pages, and waits.

    :param on_notice: called when there is a new notice of presence.
    """

    def __init__(self, database: Database, on_notice: Callable[[], None]) -> None:
        self._database = database
        self._on_notice = on_notice
        self._channel = Channel(database)
        self._connection: Connection | None = None  # the one that listens
        self._watcher: Any = None
        self._readable = Signal()
        self._has_events = False
        self._notice = -1

    def read(self, after: EventId, *, wait: bool) -> Page:
        """Return the next page after a position.

        :param wait: until there may be something new.
        :raises ServiceUnavailable: the server does not answer.
        """
        connection = self._channel.connection
        if connection is not self._connection:
            self._listen(connection)
        elif wait and not self._has_events:
            self._wait()
        self._has_events = False
        page = parse_page(self._channel.call(_READ, (to_key(after), _PAGE_BYTES)))
        if page.notice != self._notice:
            self._notice = page.notice
            self._on_notice()
        return page

    def wake(self) -> None:
        """End the waiting."""
        self._readable.set()

    def close(self) -> None:
        """Close the connection."""
        self._stop_watching()
        self._channel.close()

    def _listen(self, connection: Connection) -> None:
        self._stop_watching()
        self._has_events = False
        if self._database.listens is None:
            self._database.listens = self._is_direct(connection)
            if not self._database.listens:
                logger.warning(
                    "A pooler stands before the event log's server, so this process asks for new"
                    " events every %.0f ms. If the pooler keeps sessions, add listen=on to"
                    " TIDINGS_BROKER_URL.",
                    _POLL_INTERVAL_S * 1000,
                )
        if self._database.listens:
            connection.add_notify_handler(lambda notify: self._note(notify.channel))
            self._channel.call("; ".join(f"LISTEN {name}" for name in _CHANNELS))
            self._watcher = gevent.get_hub().loop.io(connection.fileno(), 1)
        self._connection = connection

    def _is_direct(self, _: Connection) -> bool:
        """Whether no pooler stands between: a pooler tells its clients other process numbers."""
        [(pid,)] = self._channel.call("SELECT pg_backend_pid()")
        return bool(pid == self._channel.connection.info.backend_pid)

    def _wait(self) -> None:
        self._readable.clear()
        if not self._watcher:
            self._readable.wait(_POLL_INTERVAL_S)
            return
        self._receive()
        if self._has_events:
            return
        self._watcher.start(self._readable.set)
        try:
            self._readable.wait(_TICK_S)
        finally:
            self._watcher.stop()
        self._receive()

    def _receive(self) -> None:
        for name in self._channel.receive():
            self._note(name)

    def _note(self, channel: str) -> None:
        if channel == _CHANNELS[0]:
            self._has_events = True

    def _stop_watching(self) -> None:
        watcher, self._watcher = self._watcher, None
        if watcher:
            watcher.close()
