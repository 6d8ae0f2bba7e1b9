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
_counts = memoryview(mmap(-1, 4 * _MAX_WORKERS)).cast("I")
_counts[:] = memoryview(b"\xff" * 4 * _MAX_WORKERS).cast("I")


def discard_worker(number: int) -> None:
    """Forget a worker that ended."""
    if number < _MAX_WORKERS:
        _counts[number] = _ABSENT


class StreamCounts:
    """Counts the streams of this worker, and compares them with the counts of the others. A new
    connection counts as a stream, because it may become one, until it has another response.

    :param number: of the worker. None: it shares no streams.
    :param workers: how many there are. Twice as many are looked at: a reload starts new ones.
    """

    def __init__(self, number: int | None, workers: int) -> None:
        self._counts, self._number = memoryview(bytearray(4)).cast("I"), 0
        if number is not None and workers > 1 and number < min(2 * workers, _MAX_WORKERS):
            self._counts, self._number = _counts[: 2 * workers], number

    def join(self) -> None:
        """Accept connections from now on."""
        self._counts[self._number] = 0

    def count(self, connection: ClientConnection, *, is_stream: bool) -> None:
        """Count a connection, or count it no more."""
        if connection.is_counted != is_stream:
            connection.is_counted = is_stream
            count = self._counts[self._number]
            if count != _ABSENT:
                self._counts[self._number] = count + (1 if is_stream else -1)

    def is_ahead(self) -> bool:
        """Whether another worker has so many streams less that it should accept first."""
        least = min(self._counts)
        return self._counts[self._number] > least + least // _TOLERATED_FRACTION

    def leave(self) -> None:
        """Accept no more connections."""
        self._counts[self._number] = _ABSENT
