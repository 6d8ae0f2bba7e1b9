"""Decide when a publisher may append, by the bytes that this process has yet to read or deliver.

The broker for SQLite counts these bytes itself, and `Lead` counts them for Redis.
"""

from __future__ import annotations

from time import monotonic
from typing import Protocol

from gevent.event import Event as Signal
from gevent.lock import Semaphore

SMALL_BYTES = 32 << 10  # of several events
_SMALL_SINGLE_BYTES = 64 << 10  # of a single one
_LARGE_DIVISOR, _MAX_FOR_LARGE = 16, 512 << 10  # large appends have a part of the limit, in bytes
PATIENCE_S = 1.0  # after which one large append waits like a small one
_REPORT_S = 0.05  # how long the report of another process counts
_SINGLE_RECENCY_S = 1.0  # after two single events, in which large appends take turns with them
_LARGE_TURN_S = 0.1  # in which large appends may begin
_REST_FACTOR = 1.5  # how long large appends then rest, times the turn until it was followed
# Most single events must meet no large append, which all processes still read for a while. The rest
# is shorter than large appends are patient.
_LONG_TURN_S, _REST_AFTER_LONG_TURN_S = 0.25, 0.9
_ANNOUNCE_S = 0.25  # between two announcements


class SharedTurn(Protocol):
    """The turn of large appends among all processes that share an event log."""

    def take(self, size: int, waited: float, *, beside_singles: bool) -> bool:
        """Return whether this process may append a large request now. It has the turn until `end`,
        or for a second or two if it dies or hangs.

        :param waited: seconds for which the append has waited.
        :param beside_singles: whether single events come, here or to another process.
        """

    def end(self, rest: float) -> None:
        """End the turn. No process can take it for some seconds; then any process can."""

    def announce_singles(self) -> None:
        """Let the other processes know that single events come to this one."""


class Backlog:
    """Bytes that are being appended, or that a follower of this process has not finished with.

    Publishers wait while it is long: otherwise subscribers would get each event seconds after it
    was published. Large appends wait sooner, so that they leave room for the small ones of others.
    While single events come, the large appends also take turns with them: after each turn of large
    appends, none begins for longer than the turn took. The turn lasts until all processes have read
    what it appended. So most single events wait for none. Small
    appends of several events do not count as single: a pipe sends some among its large ones.
    All processes share the turns. Other processes report long backlogs of their own, and publishers
    wait for these, too, but only a second: a process may be far behind because it was stopped for a
    while.

    :param limit: bytes above which appends wait; large ones wait above a sixteenth of it, or
        above 512 KB.
    :param turn: that of all processes; None: there is only this one.
    """

    def __init__(self, limit: int, turn: SharedTurn | None = None) -> None:
        self._shared_turn = turn
        self.limit = limit
        self.limit_for_large = max(1, min(limit // _LARGE_DIVISOR, _MAX_FOR_LARGE))
        self.size = 0
        self._shorter = Signal()
        self._reported = 0  # bytes, by another process
        self._reported_at = 0.0
        self._single_at = -_SINGLE_RECENCY_S  # when the latest append of a single event began
        self._single_before_at = -_SINGLE_RECENCY_S  # and the one before it
        self._singles_elsewhere_at = -_SINGLE_RECENCY_S
        self._announced_at = 0.0
        self._large_line = Semaphore(1)  # in which large appends wait
        self._large_at = 0.0  # when the latest large one began
        self._turn_at: float | None = None  # when the turn of large appends began
        self._latest_turn_at = 0.0  # when the turn began that runs, or was the latest
        self._rest_until = 0.0

    def begin(self, size: int, *, large: bool) -> None:
        """Count the bytes of an append that begins."""
        self.size += size
        if large:
            self._large_at = monotonic()
            if self._turn_at is None:
                self._turn_at = self._latest_turn_at = self._large_at

    def add(self, size: int) -> None:
        """Count more bytes, or fewer if `size` is negative."""
        self.size += size
        if size < 0:
            if self._turn_at is not None and self.size < SMALL_BYTES:
                self._end_turn(monotonic())
            self._shorter.set()

    def _end_turn(self, now: float) -> None:
        turn = now - self._latest_turn_at
        rest = _REST_FACTOR * turn if turn <= _LONG_TURN_S else _REST_AFTER_LONG_TURN_S
        self._rest_until, self._turn_at = now + rest, None
        if self._shared_turn:
            self._shared_turn.end(rest if self._is_beside_singles(now) else 0.0)

    def report(self, size: int) -> None:
        """Note how long the backlog of another process is. If it reads what the latest turn here
        appended, the rest begins again.
        """
        self._reported, self._reported_at = size, monotonic()
        if size >= SMALL_BYTES and self._turn_at is None and self._reported_at < self._rest_until:
            self._end_turn(self._reported_at)

    def note_singles_elsewhere(self) -> None:
        """Note that single events come to another process."""
        self._singles_elsewhere_at = monotonic()

    @property
    def has_singles(self) -> bool:
        """Whether single events come to this process regularly."""
        return monotonic() - self._single_before_at < _SINGLE_RECENCY_S

    def has_room(self, events: int, size: int, waited: float = 0.0) -> bool:
        """Return whether an append may begin now.

        :param events: how many events it appends.
        :param size: their bytes.
        :param waited: seconds for which it has waited.
        """
        now = monotonic()
        longest = self.size if waited >= PATIENCE_S else self._longest(now)
        if not is_large(events, size):
            if events == 1:
                self._note_single(now)
            return longest < self.limit
        patient = min(waited, now - self._large_at) < PATIENCE_S
        if longest >= (self.limit_for_large if patient else self.limit):
            return False
        return not patient or self._is_turn_of_large(now)

    def _note_single(self, now: float) -> None:
        self._single_before_at, self._single_at = self._single_at, now
        if now - self._announced_at >= _ANNOUNCE_S and self._shared_turn:
            self._announced_at = now
            if now - self._single_before_at < _SINGLE_RECENCY_S:
                self._shared_turn.announce_singles()

    def _longest(self, now: float) -> int:
        if self._reported and now - self._reported_at >= _REPORT_S:
            self._reported = 0
        return max(self.size, self._reported)

    def _is_turn_of_large(self, now: float) -> bool:
        if not self._is_beside_singles(now):
            return True
        if self._turn_at is None:
            return now >= self._rest_until
        return now - self._turn_at < _LARGE_TURN_S

    def _is_beside_singles(self, now: float) -> bool:
        return now - max(self._single_before_at, self._singles_elsewhere_at) < _SINGLE_RECENCY_S

    def wait_for_room(self, events: int, size: int, timeout: float) -> bool:
        """Wait until an append may begin; `begin` must follow at once. Returns False if it may
        not begin within some seconds.
        """
        began = monotonic()
        if not is_large(events, size):
            return self._wait(events, size, began, timeout)
        if not self._large_line.acquire(timeout=timeout):
            return False
        try:
            return self._wait(events, size, began, timeout)
        finally:
            self._large_line.release()

    def _wait(self, events: int, size: int, began: float, timeout: float) -> bool:
        while True:
            waited = monotonic() - began
            self._shorter.clear()
            if self.has_room(events, size, waited) and self._may_share(events, size, waited):
                return True
            if waited > timeout:
                return False
            rest = self._rest_until - began - waited
            self._shorter.wait(min(rest, _REPORT_S) if rest > 0 else _REPORT_S)

    def _may_share(self, events: int, size: int, waited: float) -> bool:
        """Return whether other processes let an append begin for which there is room here."""
        if not is_large(events, size) or self._turn_at is not None or not self._shared_turn:
            return True
        beside_singles = self._is_beside_singles(monotonic())
        return self._shared_turn.take(size, waited, beside_singles=beside_singles)


def is_large(events: int, size: int) -> bool:
    """Return whether an append of some events and bytes needs the turn of large ones."""
    return size > (_SMALL_SINGLE_BYTES if events == 1 else SMALL_BYTES)
