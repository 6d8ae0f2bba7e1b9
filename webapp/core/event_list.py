"""Events in the order of their positions, with what is left of removed ones."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from operator import attrgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .events import Event, EventId

POSITION = attrgetter("position")


class EventList:
    """Reads all events after `floor` up to `head`, without a gap. What was removed is hidden."""

    def __init__(self, start: EventId) -> None:
        self.floor = start
        self.head = start
        self._events: list[Event] = []
        self._first = 0  # index of the oldest event; entries before it are dropped events
        self._hidden_upto = start  # nothing after it is hidden

    def __len__(self) -> int:
        return len(self._events) - self._first

    def after(self, position: EventId, max_bytes: int | None = None) -> list[Event]:
        """Return the events after a position: at least one, then up to about `max_bytes` on the
        wire.
        """
        return self._visible(self.entries_after(position, max_bytes))

    def entries_after(self, position: EventId, max_bytes: int | None = None) -> list[Event]:
        """Return what `after` does, with what is hidden."""
        if position >= self.head:
            return []
        start = self._index_after(position)
        if max_bytes is None:
            return self._events[start:]
        size = 0
        for end in range(start, len(self._events)):
            size += self._events[end].wire_bytes
            if size >= max_bytes:
                return self._events[start : end + 1]
        return self._events[start:]

    def before(self, position: EventId, limit: int) -> list[Event]:
        """Return the newest `limit` events before a position, oldest first."""
        end = bisect_left(self._events, position, lo=self._first, key=POSITION)
        found: list[Event] = []
        while end > self._first and len(found) < limit:
            start = max(self._first, end - (limit - len(found)))
            found[:0] = self._visible(self._events[start:end])
            end = start
        return found

    def at(self, position: EventId) -> Event | None:
        """Return the event at a position."""
        found = self.entry_at(position)
        return found if found and not found.is_hidden else None

    def entry_at(self, position: EventId) -> Event | None:
        """Return the event at a position, or what is left of it."""
        index = bisect_left(self._events, position, lo=self._first, key=POSITION)
        found = self._events[index] if index < len(self._events) else None
        return found if found and found.position == position else None

    def _visible(self, events: list[Event]) -> list[Event]:
        if not events or events[0].position > self._hidden_upto:
            return events
        return [event for event in events if not event.is_hidden]

    def _index_after(self, position: EventId) -> int:
        """Return the index in the list of the next event after a position."""
        return bisect_right(self._events, position, lo=self._first, key=POSITION)
