"""Events in the order of their positions, with what is left of removed ones."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from operator import attrgetter
from typing import TYPE_CHECKING

from .expirations import Expirations, unix_ms
from .own_ids import OwnIds
from .removals import hold
from .topic_ends import TopicEnds

if TYPE_CHECKING:
    from collections.abc import Callable

    from .events import Event, EventId

POSITION = attrgetter("position")


class EventList:
    """Reads all events after `floor` up to `head`, without a gap. What was removed is hidden, and
    so is what has expired.

    :param now: returns Unix milliseconds by the event log's clock.
    """

    def __init__(self, start: EventId, now: Callable[[], int] = unix_ms) -> None:
        self.floor = start
        self.head = start
        self._events: list[Event] = []
        self._first = 0  # index of the oldest event; entries before it are dropped events
        self._hidden_upto = start  # nothing after it is hidden, but for what has expired since
        self._now = now
        self._expirations = Expirations()
        self._own_ids, self._topic_ends = OwnIds(), TopicEnds()
        self._at_floor: Event | None = None  # the newest event that was dropped

    def __len__(self) -> int:
        return len(self._events) - self._first

    def after(self, position: EventId, max_bytes: int | None = None) -> list[Event]:
        """Return the events after a position: at least one, then up to about `max_bytes` on the
        wire.
        """
        while entries := self.entries_after(position, max_bytes):
            if found := self._visible(entries):
                return found
            position = entries[-1].position
        return []

    def entries_after(self, position: EventId, max_bytes: int | None = None) -> list[Event]:
        """Return what `after` does, with what is hidden. What has expired since it was added last
        counts as an event.
        """
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
        found = self._find(position)
        return hold(found) if found and not (found.is_hidden or self._is_visible(found)) else found

    def _find(self, position: EventId) -> Event | None:
        index = bisect_left(self._events, position, lo=self._first, key=POSITION)
        found = self._events[index] if index < len(self._events) else None
        return found if found and found.position == position else None

    def find(self, topic: str, id: str) -> Event | None:
        """Return the event with a canonical topic and an own id, or what is left of it."""
        return self._own_ids.find(topic, id)

    def with_id(self, id: str) -> list[Event]:
        """Return the events with an own id, the oldest first, and what is left of such. The event
        at the floor counts if it was public.
        """
        at_floor = self._at_floor
        found = [at_floor] if at_floor and at_floor.id == id and not at_floor.draft.private else []
        return found + self._own_ids.all(id)

    @property
    def newest_end(self) -> EventId | None:
        """The position of the newest event that ended a topic; None: no topic is ended."""
        return self._topic_ends.newest

    @property
    def has_ends(self) -> bool:
        """Whether any topic is ended."""
        return bool(self._topic_ends)

    def end_of(self, topic: str) -> Event | None:
        """Return the event that ended a topic; None: the topic is not ended."""
        found = self._topic_ends.find(topic)
        return found if found and self._is_visible(found) else None

    @property
    def has_expiring(self) -> bool:
        """Whether any event expires, or has expired and was not removed yet."""
        return bool(self._expirations.heap)

    def holds(self, position: EventId) -> bool:
        """Whether a position is the floor, or that of an event, which may have been removed."""
        return position == self.floor or self.entry_at(position) is not None

    def _is_visible(self, event: Event) -> bool:
        return not event.is_hidden and not (event.draft.ttl and event.has_expired(self._now()))

    def _visible(self, events: list[Event]) -> list[Event]:
        if self._expirations.heap and self._expirations.is_due(now := self._now()):
            return [it for it in events if not (it.is_hidden or it.has_expired(now))]
        if not events or events[0].position > self._hidden_upto:
            return events
        return [event for event in events if not event.is_hidden]

    def _index_after(self, position: EventId) -> int:
        """Return the index in the list of the next event after a position."""
        return bisect_right(self._events, position, lo=self._first, key=POSITION)
