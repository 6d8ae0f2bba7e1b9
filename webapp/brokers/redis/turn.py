"""What a process reports to the others through Redis, and the turn of large appends."""

from __future__ import annotations

import secrets
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

import gevent

from ...errors import TidingsError
from ..backlog import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..backlog import Backlog

_TAKEN, _SOME_BEHIND = 1, 2  # answers to the wish for the turn
_TURN_MS = "1500"  # of a process that does not end it
_REPORT_INTERVAL_S = 0.5  # while there are events
_UNREAD_DIVISOR = 64  # of the event log, which all followers have yet to read before a large append
_UNREPORTED_DIVISOR = 4  # of that part, after which a follower reports early
_EVENT_BYTES = 160  # of a small event


class RedisTurn:
    """See `SharedTurn`. A large append waits until each live follower has read nearly all of the
    event log, so that it cannot be overtaken. A follower is live if it has reported within 2.5 s.

    :param call: calls a verb of the script.
    :param max_events: how many events the event log keeps.
    :param max_bytes: how many bytes of them.
    """

    backlog: Backlog

    def __init__(self, call: Callable[..., Any], max_events: int, max_bytes: int) -> None:
        self._call = call
        self._process = secrets.token_hex(8)
        self._max_unread = max(1, min(max_bytes, max_events * _EVENT_BYTES) // _UNREAD_DIVISOR)
        self._max_unreported = self._max_unread // _UNREPORTED_DIVISOR
        self._is_some_behind = False  # as far as this process knows
        self._held = False
        self._reported_at = 0.0
        self._unreported = 0  # bytes that the follower has read since then

    def take(self, size: int, waited: float, *, beside_singles: bool) -> bool:
        """Return whether a large append may begin now; see `SharedTurn.take`. Single events hold
        it up for a second at most, followers for longer.

        :raises ServiceUnavailable: the server did not say so.
        """
        disturbs = beside_singles and waited < PATIENCE_S
        if not (disturbs or self._is_some_behind or size >= self._max_unread):
            return True
        limits = _TURN_MS, str(self._max_unread)
        answer = self._call("take_turn", self._process, *limits)
        self._held, self._is_some_behind = answer == _TAKEN, answer == _SOME_BEHIND
        return self._held

    def end(self, rest: float) -> None:
        """End the turn, if this process has it. No process can take it for some seconds."""
        if self._held:
            self._held = False
            gevent.spawn(self._end, f"{rest * 1000:.0f}")

    def announce_singles(self) -> None:
        """Do nothing: the next report does."""

    def report(self) -> tuple[str, ...]:
        """Return what the next read of the follower reports, and from how many bytes on."""
        is_due = monotonic() - self._reported_at >= _REPORT_INTERVAL_S
        least = 0 if is_due else self._max_unreported - self._unreported
        return self._process, "1" if self.backlog.has_singles else "0", str(least)

    def followed(self, size: int, unread: int, *, beside_singles: bool) -> None:
        """Note what the follower has read, and what the server answered to a report.

        :param size: in bytes.
        :param unread: bytes that the slowest follower has yet to read; -1: nothing was reported.
        :param beside_singles: whether single events come to another process.
        """
        self._unreported += size
        if unread < 0:
            return
        self._reported_at, self._unreported = monotonic(), 0
        self._is_some_behind = unread >= self._max_unread
        self.backlog.report(unread)
        if beside_singles:
            self.backlog.note_singles_elsewhere()

    def _end(self, rest: str) -> None:
        with suppress(TidingsError):  # then it ends by itself
            self._call("end_turn", self._process, rest)
