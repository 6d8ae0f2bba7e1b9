"""How far the publishers of one process may be ahead of its follower."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from gevent.event import Event as Signal

from ...errors import ServiceUnavailable

if TYPE_CHECKING:
    from ...core.events import EventId

_PART = 1 / 4  # of what the event log keeps
_TIMEOUT_S = 10.0  # how long a publisher waits


class Lead:
    """What was appended and not yet followed. If it were trimmed first, all subscribers would miss
    it; so publishers wait for the follower.

    :param max_events: how many events the event log keeps.
    :param max_bytes: how many bytes of them.
    """

    def __init__(self, max_events: int, max_bytes: int) -> None:
        self._max_events = max(1.0, max_events * _PART)
        self._max_bytes = max_bytes * _PART
        self._batches: deque[tuple[EventId, int, int]] = deque()
        self._events = self._bytes = 0  # that are being appended, or not yet followed
        self._position: EventId | None = None  # of the follower
        self._followed = Signal()

    def begin(self, events: int, size: int) -> None:
        """Wait until a batch may be appended; `end` must follow.

        :raises ServiceUnavailable: the follower did not catch up.
        """
        while self._position and (self._events > self._max_events or self._bytes > self._max_bytes):
            self._followed.clear()
            if not self._followed.wait(_TIMEOUT_S):
                detail = "More is published than the hub can read from the event log."
                raise ServiceUnavailable(detail, "Publish more slowly.")
        self._add(events, size)

    def end(self, last: EventId | None, events: int, size: int) -> None:
        """Note the position of the last event of a batch; None: it may not have been appended."""
        if self._position and last and last > self._position:
            self._batches.append((last, events, size))
        else:
            self._add(-events, -size)

    def followed(self, position: EventId) -> None:
        """Note up to where the follower has come."""
        self._position = position
        while self._batches and self._batches[0][0] <= position:
            _, events, size = self._batches.popleft()
            self._add(-events, -size)
        self._followed.set()

    def _add(self, events: int, size: int) -> None:
        self._events += events
        self._bytes += size
        if events < 0:
            self._followed.set()
