"""Decides which appends are committed directly on the event loop, and not in the thread."""

from __future__ import annotations

import resource
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .rows import Row

T = TypeVar("T")

_THREAD = getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)  # Linux counts each thread


class InlineCommitPolicy:
    """Allows a commit on the event loop if it is small and will probably not wait.

    To start a thread's work and wait for it takes longer than a small commit, which takes 40 us.
    Without inline commits, a publish into SQLite takes 20 % more instructions if there is a single
    publisher; with many publishers there is no difference.
    """

    MAX_BYTES, MAX_ROWS = 32 << 10, 10
    SLOW_S = 0.002
    """A commit that waited and took longer than this was slow."""
    PAUSE_FACTOR = 25
    """After a slow commit, the thread is used for 25 times its duration: the loop is blocked 1/26
    of the time at most.
    """
    CYCLE, IN_THREAD = 250, 2
    """Of 250 commits, 2 go through the thread in any case, because they may wait for the disk: the
    first one moves the content of the write-ahead log, the second one starts that log again.
    """

    def __init__(self) -> None:
        self._turn = 0
        self._paused_until = 0.0

    def is_small(self, rows: int, size: int) -> bool:
        """Return whether a commit takes little time."""
        return rows <= self.MAX_ROWS and size <= self.MAX_BYTES

    def allows(self, rows: int, size: int) -> bool:
        """Return whether to commit inline.

        :param size: bytes of the rows.
        """
        if not self.is_small(rows, size):
            return False
        self._turn = (self._turn + 1) % self.CYCLE
        return self._turn >= self.IN_THREAD and monotonic() >= self._paused_until

    def observe(self, commit: Callable[[Sequence[Row]], T], rows: Sequence[Row]) -> T:
        """Commit inline, and pause inline commits if this one was slow."""
        began, switches = monotonic(), _voluntary_switches()
        result = commit(rows)
        if (spent := monotonic() - began) > self.SLOW_S and _voluntary_switches() > switches:
            self._paused_until = began + spent * self.PAUSE_FACTOR
        return result


def _voluntary_switches() -> int:
    """Return how often this thread has waited, such as for the disk. A commit that took long
    without waiting was only interrupted in favour of another process.
    """
    return resource.getrusage(_THREAD).ru_nvcsw
