"""How many bytes the publishers of one process are ahead of its followers."""

from __future__ import annotations

from time import monotonic

from gevent.event import Event as Signal

SMALL_BYTES = 32 << 10  # of one append
_LARGE_PART = 16  # large appends have a sixteenth of the limit
_PATIENCE_S = 1.0  # after so long, a large append waits like a small one
_REPORT_S = 0.05  # how long the report of another process counts


class Backlog:
    """Bytes that are being appended, or that a follower of this process has not finished with.

    Publishers wait while it is long: otherwise subscribers would get each event seconds after it
    was published. Large appends wait sooner, so that they leave room for the small ones of others.
    Other processes report long backlogs of their own, and publishers wait for these, too, but only
    a second: a process may be far behind because it was stopped for a while.

    :param limit: bytes above which appends wait; large ones wait above a sixteenth of it.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.limit_for_large = limit, max(1, limit // _LARGE_PART)
        self.size = 0
        self._shorter = Signal()
        self._reported = 0  # bytes, by another process
        self._reported_at = 0.0

    def add(self, size: int) -> None:
        """Count more bytes, or fewer if `size` is negative."""
        self.size += size
        if size < 0:
            self._shorter.set()

    def report(self, size: int) -> None:
        """Note how long the backlog of another process is."""
        self._reported, self._reported_at = size, monotonic()

    def has_room(self, size: int, waited: float = 0.0) -> bool:
        """Return whether an append may begin now.

        :param size: bytes of the append.
        :param waited: seconds for which it has waited.
        """
        patient, longest = waited < _PATIENCE_S, self.size
        if self._reported and patient:
            if monotonic() - self._reported_at < _REPORT_S:
                longest = max(longest, self._reported)
            else:
                self._reported = 0
        return longest < (self.limit_for_large if patient and size > SMALL_BYTES else self.limit)

    def wait_for_room(self, size: int, timeout: float) -> bool:
        """Wait until an append may begin. Returns False if it may not within some seconds."""
        began, waited = monotonic(), 0.0
        while not self.has_room(size, waited):
            if waited > timeout:
                return False
            self._shorter.clear()
            self._shorter.wait(_REPORT_S)
            waited = monotonic() - began
        return True
