"""The newest events in memory, in the log's order, bounded by count and by bytes."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from operator import attrgetter
from typing import TYPE_CHECKING

from .events import EventId

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .events import Event

_position = attrgetter("position")


class Window:
    """A run of events without a gap, from just after `floor` to `head`.

    :param start: the place before the first event; `floor` and `head` of the empty window.
    :param max_events: how many events `trim` leaves at most.
    :param max_bytes: how many bytes of memory `trim` leaves at most; the newest event always stays.
    """

    def __init__(self, start: EventId, max_events: int, max_bytes: int) -> None:
        self.floor = start
        self.head = start
        self.max_events = max_events
        self.max_bytes = max_bytes
        self._events: list[Event] = []
        self._first = 0  # index of the oldest; what lies before it was dropped
        self._bytes = 0
        self._own: dict[str, Event] = {}  # by the publishers' own ids
        self._at_floor: Event | None = None

    def __len__(self) -> int:
        return len(self._events) - self._first

    @property
    def over_limit(self) -> bool:
        """Whether it holds more than its bounds, so that `trim` would drop events."""
        count = len(self._events) - self._first
        return count > 1 and (count > self.max_events or self._bytes > self.max_bytes)

    @property
    def fill_ratio(self) -> float:
        """How much of its bounds it fills: 1.0 is all of it."""
        return max(len(self) / self.max_events, self._bytes / self.max_bytes)

    def fraction_of(self, events: Sequence[Event]) -> float:
        """Return how much of the window's bounds the events fill: 1.0 is all of it."""
        size = sum(event.memory_bytes for event in events)
        return max(len(events) / self.max_events, size / self.max_bytes)

    def append(self, events: Sequence[Event]) -> None:
        """Add events that come after the head, in order; nothing is dropped yet."""
        self._events.extend(events)
        for event in events:
            self._bytes += event.memory_bytes
            if event.draft.id:
                self._own[event.id] = event
            self.head = event.position

    def trim(self, upto: EventId | None = None) -> None:
        """Drop the oldest until the bounds hold, but none after `upto`."""
        while self.over_limit and (upto is None or self._events[self._first].position <= upto):
            self._drop()

    def drop_before(self, position: EventId) -> None:
        """Drop what lies before `position`."""
        while len(self) and self._events[self._first].position < position:
            self._drop()

    def clear(self, position: EventId) -> None:
        """Drop all and go on after another place."""
        self._events.clear()
        self._own.clear()
        self._at_floor = None
        self._first = self._bytes = 0
        self.floor = self.head = position

    def after(self, position: EventId, max_bytes: int | None = None) -> list[Event]:
        """Return the events after `position`: about `max_bytes` on the wire, at least one event."""
        if position >= self.head:
            return []
        start = bisect_right(self._events, position, lo=self._first, key=_position)
        if max_bytes is None:
            return self._events[start:]
        size = 0
        for end in range(start, len(self._events)):
            size += self._events[end].wire_bytes
            if size >= max_bytes:
                return self._events[start : end + 1]
        return self._events[start:]

    def before(self, position: EventId, limit: int) -> list[Event]:
        """Return the newest `limit` events before `position`, in the log's order."""
        end = bisect_left(self._events, position, lo=self._first, key=_position)
        return self._events[max(self._first, end - limit) : end]

    def find(self, id: str) -> Event | None:
        """Return the event that has a publisher's own id."""
        event = self._own.get(id)
        return event if event and event is not self._at_floor else None

    def position_of(self, id: str) -> EventId | None:
        """Return the place that an id names: the floor, or an event's place or own id. The own id
        of the floor counts where that event was public.
        """
        event = self._own.get(id)
        if event and not (event is self._at_floor and event.draft.private):
            return event.position
        position = EventId.parse(id)
        return position if position and self._holds(position) else None

    def _holds(self, position: EventId) -> bool:
        if position == self.floor:
            return True
        index = bisect_left(self._events, position, lo=self._first, key=_position)
        return index < len(self._events) and self._events[index].position == position

    def _drop(self) -> None:
        event = self._events[self._first]
        self._events[self._first] = None  # type: ignore[call-overload] # its memory is free now
        self._first += 1
        self._bytes -= event.memory_bytes
        # The newest that was dropped names the floor, which is still a place to come back to.
        if (old := self._at_floor) and self._own.get(old.id) is old:
            del self._own[old.id]
        self._at_floor = event
        self.floor = event.position
        # Only now and then: moving the list for every event would cost what it holds.
        if self._first * 2 > len(self._events):
            del self._events[: self._first]
            self._first = 0
