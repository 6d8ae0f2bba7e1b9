"""How far the publishers of one process may be ahead of its follower."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import gevent
from gevent.event import Event as Signal

from ..errors import ServiceUnavailable

if TYPE_CHECKING:
    from ..core.events import EventId

_PART = 1 / 4  # of what the event log keeps
_TIMEOUT_S = 10.0  # how long a publisher waits


class Lead:
    """Counts what this process has appended and its follower has not read yet. If it were trimmed
    first, all subscribers would miss it. So publishers wait when it is a quarter of the event log.

    :param max_events: how many events the event log keeps.
    :param max_bytes: how many bytes of them.
    """

    def __init__(self, max_events: int, max_bytes: int) -> None:
        self._max_events, self._max_bytes = max(1, max_events * _PART), max_bytes * _PART
        self._events = self._bytes = 0  # being appended, or not yet read by the follower
        self._batches: deque[tuple[EventId, int, int]] = deque()  # not yet read by the follower
        self._position: EventId | None = None  # of the follower, once there is one
        self._shorter = Signal()

    def begin(self, events: int, size: int) -> None:
        """Wait until a batch may be appended; `end` must follow.

        :raises ServiceUnavailable: the follower did not catch up.
        """
        if self._is_full():
            detail = "More is published than the hub can read from the event log."
            late = ServiceUnavailable(detail, "Publish more slowly, and try again.")
            with gevent.Timeout(_TIMEOUT_S, late):
                while self._is_full():
                    self._shorter.clear()
                    self._shorter.wait()
        self._add(events, size)

    def end(self, last: EventId | None, events: int, size: int) -> None:
        """Note the position of a batch's last event; None: the batch may not be appended."""
        if self._position and last and last > self._position:
            self._batches.append((last, events, size))
        else:
            self._add(-events, -size)

    def followed(self, position: EventId) -> None:
        """Note up to which position the follower has read."""
        self._position = position
        while self._batches and self._batches[0][0] <= position:
            _, events, size = self._batches.popleft()
            self._add(-events, -size)

    def _is_full(self) -> bool:
        longer = self._events > self._max_events or self._bytes > self._max_bytes
        return longer and self._position is not None

    def _add(self, events: int, size: int) -> None:
        self._events += events
        self._bytes += size
        if events < 0:
            self._shorter.set()
