"""How many streams each worker has, in memory that the workers of a server share.

Linux wakes all workers for a new connection, and the worker that accepts it first has it. That is
often the same worker. So a worker that has more streams than another one lets the others be first.
"""

from __future__ import annotations

from mmap import mmap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .connection import ClientConnection

_MAX_WORKERS = 64  # those with a higher number share no streams
_ABSENT = 0xFFFFFFFF  # in place of the count of a worker that accepts no connections
_TOLERATED_FRACTION = 20  # of the least count, by which another one may be larger: 5 %

# gunicorn's master imports this before it forks, so that all workers have the same memory.
_SIZE = _MAX_WORKERS + 1
_counts = memoryview(mmap(-1, 4 * _SIZE)).cast("I")
_counts[:-1] = memoryview(b"\xff" * 4 * _MAX_WORKERS).cast("I")
_counts[-1] = 0  # how many workers there were at once: only their counts are looked at


def add_worker(number: int) -> None:
    """Expect a worker. The master calls this, before it forks."""
    if number < _MAX_WORKERS:
        _counts[-1] = max(_counts[-1], number + 1)


def discard_worker(number: int) -> None:
    """Forget a worker that ended."""
    if number < _MAX_WORKERS:
        _counts[number] = _ABSENT


class StreamCounts:
    """Counts the streams of this worker, and compares them with the counts of the others. A new
    connection counts as a stream, because it may become one, until it has another response.

    :param number: of the worker. None: it shares no streams.
    """

    def __init__(self, number: int | None) -> None:
        self._counts, self._number = memoryview(bytearray(8)).cast("I"), 0
        self._counts[-1] = 1
        if number is not None and number < _MAX_WORKERS:
            self._counts, self._number = _counts, number
        self._count = 0
        self._accepts = False

    def join(self) -> None:
        """Accept connections from now on, also after `leave`."""
        self._accepts = True
        self._publish()

    def leave(self) -> None:
        """Accept no more connections: no other worker waits for this one."""
        self._accepts = False
        self._publish()

    def _publish(self) -> None:
        self._counts[self._number] = self._count if self._accepts else _ABSENT

    def count(self, connection: ClientConnection, *, is_stream: bool) -> None:
        """Count a connection, or stop counting it."""
        if connection.is_counted != is_stream:
            connection.is_counted = is_stream
            self._count += 1 if is_stream else -1
            self._publish()

    def least(self) -> int:
        """Return the lowest count of streams of the workers that accept connections."""
        return min(self._counts[: self._counts[-1]])

    def is_ahead(self) -> bool:
        """Whether another worker has much fewer streams, and should accept first."""
        least = self.least()
        return self._count > least + least // _TOLERATED_FRACTION
