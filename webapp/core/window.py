"""The newest events of the event log, in memory, bounded by count and by bytes."""

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
    """All events after `floor` up to `head`, without a gap.

    :param start: the `floor` and `head` of the empty window.
    :param max_events: how many events `trim` leaves at most.
    :param max_bytes: how many bytes of memory `trim` leaves at most; the newest event always stays.
    """

    def __init__(self, start: EventId, max_events: int, max_bytes: int) -> None:
        self.floor = start
        self.head = start
        self.max_events = max_events
        self.max_bytes = max_bytes
        self._events: list[Event] = []
        self._first = 0  # index of the oldest event; entries before it are dropped events
        self._bytes = 0
        self._by_custom_id: dict[str, Event] = {}
        self._at_floor: Event | None = None  # the newest event that was dropped

    def __len__(self) -> int:
        return len(self._events) - self._first

    @property
    def over_limit(self) -> bool:
        """Whether it is over its bounds, so that `trim` would drop events."""
        count = len(self._events) - self._first
        return count > 1 and (count > self.max_events or self._bytes > self.max_bytes)

    @property
    def fill_ratio(self) -> float:
        """How full it is: 1.0 is at its bounds."""
        return max(len(self) / self.max_events, self._bytes / self.max_bytes)

    def fraction_of(self, events: Sequence[Event]) -> float:
        """Return how full these events alone would make it: 1.0 is at its bounds."""
        size = sum(event.memory_bytes for event in events)
        return max(len(events) / self.max_events, size / self.max_bytes)

    def append(self, events: Sequence[Event]) -> None:
        """Add the events that follow the head, in order. Nothing is dropped: see `trim`."""
        self._events.extend(events)
        for event in events:
            self._bytes += event.memory_bytes
            if event.draft.id:
                self._by_custom_id[event.id] = event
            self.head = event.position

    def trim(self, upto: EventId | None = None) -> None:
        """Drop the oldest events until it is within its bounds, but none after `upto`."""
        while self.over_limit and (upto is None or self._events[self._first].position <= upto):
            self._drop()

    def drop_before(self, position: EventId) -> None:
        """Drop the events before a position."""
        while len(self) and self._events[self._first].position < position:
            self._drop()

    def clear(self, position: EventId) -> None:
        """Drop all events, and continue after another position."""
        self._events.clear()
        self._by_custom_id.clear()
        self._at_floor = None
        self._first = self._bytes = 0
        self.floor = self.head = position

    def after(self, position: EventId, max_bytes: int | None = None) -> list[Event]:
        """Return the events after a position: at least one, then up to about `max_bytes` on the
        wire.
        """
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
        """Return the newest `limit` events before a position, oldest first."""
        end = bisect_left(self._events, position, lo=self._first, key=_position)
        return self._events[max(self._first, end - limit) : end]

    def find(self, id: str) -> Event | None:
        """Return the event with a custom id; None: there is none in the window."""
        event = self._by_custom_id.get(id)
        return event if event and event is not self._at_floor else None

    def position_of(self, id: str) -> EventId | None:
        """Return the position that an event id names: the floor, or that of an event. The custom id
        of the event at the floor counts only if it was public.
        """
        event = self._by_custom_id.get(id)
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
        self._events[self._first] = None  # type: ignore[call-overload] # frees its memory
        self._first += 1
        self._bytes -= event.memory_bytes
        # Keep the newest dropped event: its id names the floor, from which a client may resume.
        if (old := self._at_floor) and self._by_custom_id.get(old.id) is old:
            del self._by_custom_id[old.id]
        self._at_floor = event
        self.floor = event.position
        # Cut the list only when half of it is empty: each cut moves all the rest.
        if self._first * 2 > len(self._events):
            del self._events[: self._first]
            self._first = 0
