"""The turn of large appends among the processes that share a file: a lock on the folder with their
sockets. The kernel releases it when its process dies.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

import gevent

from ..backlog import PATIENCE_S

if TYPE_CHECKING:
    from .wakeup import WakeupSocket

SINGLES = b"s"
"""The datagram that says that single events come to its sender."""


class SqliteTurn:
    """See `SharedTurn`. An append waits for it for a second at most: its process may hang."""

    def __init__(self) -> None:
        self.wakeups: WakeupSocket | None = None
        self._held = self._resting = False
        self._release_at = 0.0

    def take(self, _: int, waited: float, *, beside_singles: bool) -> bool:
        """Return whether a large append may begin now; see `SharedTurn.take`."""
        if not beside_singles or waited >= PATIENCE_S or not self.wakeups:
            return True
        if self._resting:
            return False
        self._held = self._held or self.wakeups.try_lock()
        return self._held

    def end(self, rest: float) -> None:
        """Release the turn after some seconds. During the rest, another one can take its place."""
        if not self._held:
            return
        self._release_at = monotonic() + rest
        if not self._resting:
            self._resting = True
            gevent.spawn(self._release)

    def announce_singles(self) -> None:
        """Let the other processes know that single events come to this one."""
        if self.wakeups:
            self.wakeups.notify(SINGLES)

    def _release(self) -> None:
        while (rest := self._release_at - monotonic()) > 0:
            gevent.sleep(rest)
        self._held = self._resting = False
        if self.wakeups:
            self.wakeups.unlock()
