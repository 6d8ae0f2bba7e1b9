"""A worker's open connections. It closes some of them when it has no files left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .connection import ClientConnection
from .waiters import Waiters

if TYPE_CHECKING:
    from ..config.settings import Settings
    from ..monitoring.metric_buffers import BufferedCounter
    from .acceptor import Acceptor
    from .stream_counts import StreamCounts

_SPARE_PERCENT = 10  # of the limit: silent connections end where fewer files are free
_MIN_SPARE_FILES = 64  # the same for small limits: the process itself needs some
_FREED_CONNECTIONS = 64  # where the system has no more files


class OpenConnections:
    """The connections of a worker.

    Where files run out, those end that wait for their clients: before a request, within a header or
    body, or for a response to be read. First end those that have not been served a request yet,
    then the others, then silent pipes; of each kind, the one that has waited for the longest time.
    Streams and requests that are being served stay.

    :param limit: how many a worker can have.
    :param keepalive_s: seconds for which one may wait for its next request.
    :param counts: how many of them are streams.
    :param refused: counts, by reason, the connections that are ended without a response.
    """

    def __init__(
        self,
        settings: Settings,
        limit: int,
        keepalive_s: float,
        counts: StreamCounts,
        refused: BufferedCounter,
    ) -> None:
        self.acceptors: list[Acceptor] = []
        """The acceptors, which accept again when there are fewer connections than the limit."""
        self._limit = limit
        self._settings = settings
        self._keepalive_s = keepalive_s
        self._full = limit - max(limit * _SPARE_PERCENT // 100, min(_MIN_SPARE_FILES, limit // 4))
        self.counts = counts
        self._refused = refused
        self._stopping = False
        self._open = set[ClientConnection]()
        self._waiters = Waiters[ClientConnection]()

    def __len__(self) -> int:
        return len(self._open)

    def is_full(self) -> bool:
        """Whether no more can be accepted."""
        return len(self._open) >= self._limit

    def add(self, sock: Any) -> ClientConnection:
        """Take in a socket that was accepted; `discard` must follow."""
        connection = ClientConnection(sock, self._settings, self._keepalive_s, self._waiters)
        self._open.add(connection)
        self.counts.count(connection, is_stream=True)
        if self.is_full():
            self.counts.leave()
        if len(self._open) > self._full:
            self.free_files(1)
        return connection

    def discard(self, connection: ClientConnection) -> None:
        """Forget a connection that was closed."""
        was_full = self.is_full()
        self._open.discard(connection)
        self.counts.count(connection, is_stream=False)
        if was_full and not self._stopping:
            self.counts.join()
            for acceptor in self.acceptors:
                acceptor.accept_again()
        if connection.timeout_reason:
            self._refused.add(1, connection.timeout_reason)

    def free_files(self, count: int = _FREED_CONNECTIONS) -> None:
        """End up to `count` connections that wait for their clients."""
        silent = self._waiters.take(count)
        for connection in silent:
            self._refused.add(1, "connections")
            connection.abort()
        for connection in self._waiters.take_pipes(count - len(silent)):
            connection.evict()

    def stop_reading(self) -> None:
        """Let each end after its response. No more are accepted."""
        self._stopping = True
        self.counts.leave()
        for connection in list(self._open):
            connection.stop_reading()

    def abort(self) -> None:
        """End all connections, also in the middle of a request."""
        for connection in list(self._open):
            connection.abort()
