"""When the events of a window expire. Events without a `ttl` cost nothing."""

from __future__ import annotations

import time
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .events import Event, EventId

_MIN_STALE_ENTRIES = 1000  # entries of events that are gone, before they are looked for


def unix_ms() -> int:
    """Return the time of this machine in Unix milliseconds."""
    return time.time_ns() // 1_000_000


class Expirations:
    """The positions of events by the time at which they expire."""

    def __init__(self) -> None:
        self.heap: list[tuple[int, EventId]] = []
        """When each expires, the first one first."""

    def add(self, event: Event) -> None:
        """Add an event that expires."""
        if event.expires is not None:
            heappush(self.heap, (event.expires, event.position))

    def is_due(self, now: int) -> bool:
        """Whether an event has expired.

        :param now: Unix milliseconds by the event log's clock.
        """
        return bool(self.heap) and self.heap[0][0] <= now

    def take_due(self, now: int, most: int) -> list[EventId]:
        """Remove some events that have expired; return their positions."""
        found: list[EventId] = []
        while len(found) < most and self.is_due(now):
            found.append(heappop(self.heap)[1])
        return found

    def forget(self, floor: EventId, count: int) -> None:
        """Forget the events up to a position, if that makes it much smaller.

        :param count: how many events there are after the position.
        """
        if len(self.heap) > 2 * count + _MIN_STALE_ENTRIES:
            self.heap = [entry for entry in self.heap if entry[1] > floor]
            heapify(self.heap)
