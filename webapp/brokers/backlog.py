"""Decide when a publisher may append, by the bytes that this process has yet to read or deliver.

The broker for SQLite counts these bytes itself, and `Lead` counts them for Redis.
"""

from __future__ import annotations

from time import monotonic

from gevent.event import Event as Signal

SMALL_BYTES = 32 << 10  # of one append
_LARGE_PART = 16  # large appends have a sixteenth of the limit
_PATIENCE_S = 1.0  # after which one large append waits like a small one
_REPORT_S = 0.05  # how long the report of another process counts
_SINGLE_RECENCY_S = 1.0  # after two single events, in which large appends take turns with them
_LARGE_TURN_S = 0.1  # in which large appends may begin
_REST = 1.5  # how long large appends then rest, times the turn until it was followed
_MAX_REST_S = 0.5


class Backlog:
    """Bytes that are being appended, or that a follower of this process has not finished with.

    Publishers wait while it is long: otherwise subscribers would get each event seconds after it
    was published. Large appends wait sooner, so that they leave room for the small ones of others.
    While single events come, the large appends also take turns with them: after each turn of large
    appends, none begins for longer than the turn took. So most single events wait for none. Small
    appends of several events do not count as single: a pipe sends some among its large ones.
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
        self._single_at = -_SINGLE_RECENCY_S  # when the latest append of a single event began
        self._single_before_at = -_SINGLE_RECENCY_S  # and the one before it
        self._large_at = 0.0  # when the latest large one began
        self._turn_at: float | None = None  # when the turn of large appends began
        self._rest_until = 0.0

    def add(self, size: int) -> None:
        """Count more bytes, or fewer if `size` is negative."""
        self.size += size
        if size < 0:
            if self._turn_at is not None and self.size < SMALL_BYTES:
                now = monotonic()
                self._rest_until = now + min(_REST * (now - self._turn_at), _MAX_REST_S)
                self._turn_at = None
            self._shorter.set()

    def report(self, size: int) -> None:
        """Note how long the backlog of another process is."""
        self._reported, self._reported_at = size, monotonic()

    def has_room(self, events: int, size: int, waited: float = 0.0) -> bool:
        """Return whether an append may begin now.

        :param events: how many events it appends.
        :param size: their bytes.
        :param waited: seconds for which it has waited.
        """
        now = monotonic()
        longest = self.size if waited >= _PATIENCE_S else self._longest(now)
        if size <= SMALL_BYTES:
            if events == 1:
                self._single_before_at, self._single_at = self._single_at, now
            return longest < self.limit
        patient = min(waited, now - self._large_at) < _PATIENCE_S
        if longest >= (self.limit_for_large if patient else self.limit):
            return False
        if patient and not self._is_turn_of_large(now):
            return False
        self._large_at = now
        if self._turn_at is None:
            self._turn_at = now
        return True

    def _longest(self, now: float) -> int:
        if self._reported and now - self._reported_at >= _REPORT_S:
            self._reported = 0
        return max(self.size, self._reported)

    def _is_turn_of_large(self, now: float) -> bool:
        if now - self._single_before_at >= _SINGLE_RECENCY_S:
            return True
        if self._turn_at is None:
            return now >= self._rest_until
        if self.size < SMALL_BYTES:  # what began was not appended
            self._turn_at = None
            return True
        return now - self._turn_at < _LARGE_TURN_S

    def wait_for_room(self, events: int, size: int, timeout: float) -> bool:
        """Wait until an append may begin. Returns False if it may not within some seconds."""
        began, waited = monotonic(), 0.0
        while not self.has_room(events, size, waited):
            if waited > timeout:
                return False
            self._shorter.clear()
            rest = self._rest_until - began - waited
            self._shorter.wait(min(rest, _REPORT_S) if rest > 0 else _REPORT_S)
            waited = monotonic() - began
        return True
