"""Keeps the event log within its limits, in short steps.

All processes that publish do it, one at a time. Deleted rows take room until the tables are
vacuumed. The server's own vacuum comes too late for a log, which replaces its rows again and again.
"""

from __future__ import annotations

from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING

from gevent.event import Event as Signal

from ...backoff import jitter
from ...core.events import EventId
from ...errors import TidingsError
from ...tasks import lasting
from ..base import now
from .rows import to_key

if TYPE_CHECKING:
    from collections.abc import Callable

    import gevent

    from .database import ReadChannels

_MAX_INTERVAL_S = 5.0
_SLACK_EVENTS = 500  # over the limit: what one step deletes
_TRIM = "SELECT tidings.trim(%s::bigint, %s::bigint, %s::bigint)"
_VACUUM_INTERVAL_S = 1.0
_VACUUM_EVENTS = 5000  # deleted since the last one, or a part of those that the event log has
_VACUUM_PART = 1 / 5
_VACUUM_TIMEOUT_S = 60.0
_TABLES = ("log", "hit", "topic", "head", "outbox", "commits")
_VACUUM = f"VACUUM (SKIP_LOCKED, TRUNCATE false) {', '.join(f'tidings.{it}' for it in _TABLES)}"


class Trimmer:
    """Deletes the oldest events.

    :param settle: called now and then, to finish removals.
    :param max_age: in seconds.
    """

    def __init__(
        self,
        channels: ReadChannels,
        settle: Callable[[], None],
        max_events: int,
        max_bytes: int,
        max_age: float,
    ) -> None:
        self._channels, self._settle = channels, settle
        self._max_events, self._max_bytes = max_events, max_bytes
        self._max_age_ms = round(max_age * 1000)
        self._interval = min(_MAX_INTERVAL_S, max_age / 10)
        self._is_over = Signal()
        self._task: gevent.Greenlet[[], None] | None = None
        self._is_stopped = False
        self._events = 0  # that the event log has, or had
        self._deleted = 0  # events since the tables were vacuumed
        self._vacuumed_at = 0.0  # a monotonic time

    def note(self, events: int, size: int) -> None:
        """Note how many events and bytes the event log has."""
        self._events = events
        slack = min(_SLACK_EVENTS, self._max_events // 10)
        if events > self._max_events + slack or size > self._max_bytes:
            self.start()
            self._is_over.set()

    def start(self) -> None:
        """Trim from now on."""
        if not self._task and not self._is_stopped:
            self._task = lasting("trim", self._run)

    def stop(self) -> None:
        """End the trimming."""
        self._is_stopped = True
        if self._task:
            self._task.kill(block=False)

    def _run(self) -> None:
        while True:
            self._is_over.wait(self._interval * jitter(0.5, 1))
            self._is_over.clear()
            with suppress(TidingsError):  # the follower logs it
                self._settle()
                while self._trim_some():
                    pass
                self._vacuum()

    def _trim_some(self) -> bool:
        too_old = to_key(EventId(max(0, now() - self._max_age_ms), 0))
        values = self._max_events, self._max_bytes, too_old
        [(deleted,)] = self._channels.call(_TRIM, values, tries=2)
        self._deleted += deleted
        return bool(deleted)

    def _vacuum(self) -> None:
        is_due = monotonic() - self._vacuumed_at >= _VACUUM_INTERVAL_S
        if is_due and self._deleted >= max(_VACUUM_EVENTS, self._events * _VACUUM_PART):
            self._vacuumed_at, self._deleted = monotonic(), 0
            self._channels.call(_VACUUM, timeout=_VACUUM_TIMEOUT_S)
