"""The newest events of the event log, in memory, bounded by count and by bytes, with an index by
topic.

Most events leave the window before anybody asks for a topic. So an event is added to the index when
a read needs it.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import islice
from typing import TYPE_CHECKING, Any

from .event_list import POSITION, EventList
from .events import EventId
from .expirations import Expirations, unix_ms
from .own_ids import OwnIds
from .removals import hold
from .topic_ends import TopicEnds
from .topic_index import DirectoryPage, TopicEntry, TopicIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from .events import Event
    from .globs import Glob
    from .removals import Removal
    from .topic_index import NamePage

_INDEXED_EVENTS = 256  # events: half a millisecond
_FEW_EVENTS = 256  # a read walks through so many, and does not need the index
_EXPIRED_EVENTS = 500  # events: a millisecond
_EXAMINED_EVENTS = 1000  # events, by a step of a removal: half a millisecond
_BEFORE_ALL = EventId(0, 0)


class Window(EventList):
    """All events after `floor` up to `head`, without a gap.

    :param start: the `floor` and `head` of the empty window.
    :param max_events: how many events `trim` leaves at most.
    :param max_bytes: how many bytes of memory `trim` leaves at most; the newest event always stays.
    :param now: returns Unix milliseconds by the event log's clock. No event that has expired is
        returned; `expire` frees the memory of such.
    """

    def __init__(
        self,
        start: EventId,
        max_events: int,
        max_bytes: int,
        now: Callable[[], int] = unix_ms,
    ) -> None:
        super().__init__(start, now)
        self.max_events = max_events
        self.max_bytes = max_bytes
        self.ends_upto = _BEFORE_ALL
        """No event after this position has ended a topic, up to the head."""
        self._bytes = 0
        self._index = TopicIndex()

    @property
    def over_limit(self) -> bool:
        """Whether it is over its bounds, so that `trim` would drop events."""
        count = len(self._events) - self._first
        return count > 1 and (count > self.max_events or self._bytes > self.max_bytes)

    @property
    def fill_ratio(self) -> float:
        """How full it is: 1.0 is at its bounds."""
        return max(len(self) / self.max_events, self._bytes / self.max_bytes)

    @property
    def memory_bytes(self) -> int:
        """How many bytes of memory its events take."""
        return self._bytes

    def fraction_of(self, events: Sequence[Event]) -> float:
        """Return how full these events alone would make it: 1.0 is at its bounds."""
        size = sum([event.memory_bytes for event in events])
        return max(len(events) / self.max_events, size / self.max_bytes)

    def append(self, events: Sequence[Event]) -> None:
        """Add the events that follow the head, in order. Nothing is dropped: see `trim`."""
        self._events.extend(events)
        for event in events:
            draft = event.draft
            self._bytes += event.memory_bytes
            if draft.id:
                self._own_ids.add(event)
            if draft.ended:
                self._topic_ends.add(event)
                self.ends_upto = event.position
            if draft.ttl:
                self._expirations.add(event)
        if events:
            self.head = events[-1].position

    def trim(self, upto: EventId | None = None) -> None:
        """Drop the oldest events until it is within its bounds, but none after `upto`."""
        if not self.over_limit:
            return
        count, size, end = len(self), self._bytes, self._first
        last = len(self._events) if upto is None else self._index_after(upto)
        while end < last and count > 1 and (count > self.max_events or size > self.max_bytes):
            size -= self._events[end].memory_bytes
            count, end = count - 1, end + 1
        self._drop(end)

    def drop_before(self, position: EventId) -> None:
        """Drop the events before a position."""
        if len(self) and self._events[self._first].position < position:
            self._drop(bisect_left(self._events, position, lo=self._first, key=POSITION))

    def clear(self, position: EventId) -> None:
        """Drop all events, and continue after another position."""
        self._events.clear()
        self._index = TopicIndex()
        self._own_ids, self._topic_ends = OwnIds(), TopicEnds()
        self._expirations = Expirations()
        self._at_floor = None
        self._first = self._bytes = 0
        self.floor = self.head = self.ends_upto = self._hidden_upto = position

    def append_hidden(self, entry: Event) -> None:
        """Add an entry of the event log that is no event."""
        self.append([entry])
        self._hidden_upto = entry.position

    def remove(self, removal: Removal) -> Iterator[int]:
        """Remove events, in short steps, by the index. Yields how many each step removed."""
        number, end = map(self._number_before, (removal.first, removal.last.next(0)))
        if end - number <= _EXAMINED_EVENTS:
            yield self._hide_some(removal, range(number, end))
            return
        yield from (0 for _ in self.update_index())
        while number < end:
            some = list(islice(self._index.since(number, [removal.topic]), _EXAMINED_EVENTS))
            yield self._hide_some(removal, some)
            number = some[-1] + 1 if some else end

    def _hide_some(self, removal: Removal, numbers: Iterable[int]) -> int:
        events = ((number, self._event(number)) for number in numbers)
        return self._hide({n: it for n, it in events if removal.hides(it) and not it.is_hidden})

    def expire(self) -> Iterator[None]:
        """Remove events that have expired, in short steps."""
        while due := self._expirations.take_due(self._now(), _EXPIRED_EVENTS):
            found = [it for it in map(self._find, due) if it and not it.is_hidden]
            self._hide({self._number_before(it.position): it for it in found})
            yield
        self._expirations.forget(self.floor, len(self))

    def _hide(self, events: dict[int, Event]) -> int:
        self._index.remove(events)
        for number, event in events.items():
            held = hold(event)
            self._events[self._first + number - self._index.first] = held
            self._bytes += held.memory_bytes - event.memory_bytes
            self._hidden_upto = max(self._hidden_upto, event.position)
            if event.draft.id:
                self._own_ids.replace(event, held)
            if event.draft.ended:
                self._topic_ends.drop(event)
        return len(events)

    def after_with(
        self, position: EventId, max_bytes: int, topics: Iterable[str]
    ) -> tuple[list[Event], EventId]:
        """Return the events after a position that have one of some topics, bounded as in `after`,
        and the position up to which these are all.
        """
        found: list[Event] = []
        size = 0
        for event in self._with_topics(position, topics):
            if size >= max_bytes:
                return found, found[-1].position
            if self._is_visible(event):
                found.append(event)
                size += event.wire_bytes
        return found, max(position, self.head)

    def _with_topics(self, position: EventId, topics: Iterable[str]) -> Iterator[Event]:
        start = self._index_after(position)
        if len(self._events) - start <= _FEW_EVENTS:
            names = frozenset(topics)
            events = islice(self._events, start, None)
            found = (it for it in events if not names.isdisjoint(it.draft.topics))
            return (it for it in found if not it.is_hidden)
        self._index_rest()
        return map(self._event, self._index.since(self._number(start), topics))

    def before_with(self, position: EventId, limit: int, topics: Iterable[str]) -> list[Event]:
        """Return the newest `limit` events before a position that have one of some topics, oldest
        first.
        """
        self._index_rest()
        end, names = self._number_before(position), list(topics)
        found: list[Event] = []
        while len(found) < limit:
            numbers = self._index.before(end, limit - len(found), names)
            if not numbers:
                break
            end = numbers[0]
            found[:0] = self._visible([self._event(number) for number in numbers])
        return found

    def newest(self, topic: str, before: EventId, *, public: bool) -> EventId | None:
        """Return the position of the newest event before another that has a topic.

        :param public: only of events that are not private.
        """
        self._index_rest()
        number: int | None = self._number_before(before)
        while number is not None:
            number = self._index.newest(number, topic, public=public)
            if number is not None and self._is_visible(event := self._event(number)):
                return event.position
        return None

    def needs_index_after(self, position: EventId) -> bool:
        """Whether `after_with` reads the index by topic for the events after a position."""
        return self._index_after(position) < len(self._events) - _FEW_EVENTS

    def update_index(self) -> Iterator[None]:
        """Add all events to the index, in short steps. What reads by topic adds the rest at once,
        so call this before it.
        """
        while self._is_index_behind:
            start = self._first + self._index.next - self._index.first
            for event in self._events[start : start + _INDEXED_EVENTS]:
                self._index.add(event)
            yield

    def sort_names(self) -> Iterator[None]:
        """Prepare for `topics` and `names`, in short steps; they are called at its end."""
        while self._index.has_unsorted_names or self._is_index_behind:
            yield from self.update_index()
            yield from self._index.sort_names()

    def topics(
        self, prefix: str, after: str, limit: int, globs: Sequence[Glob] = ()
    ) -> DirectoryPage:
        """Return the next lines of the directory of topics; see `Broker.topics`."""
        page = self.names(prefix, after, limit, globs)
        return DirectoryPage([self._entry(topic) for topic in page.names], page.upto)

    def names(self, prefix: str, after: str, limit: int, globs: Sequence[Glob] = ()) -> NamePage:
        """Return only the names."""
        return self._index.names(prefix, after, limit, globs)

    @property
    def _is_index_behind(self) -> bool:
        return self._index.next - self._index.first < len(self)

    def _index_rest(self) -> None:
        for _ in self.update_index():
            pass

    def _number_before(self, position: EventId) -> int:
        """Return the number that follows that of the newest event before a position."""
        return self._number(bisect_left(self._events, position, lo=self._first, key=POSITION))

    def _number(self, index: int) -> int:
        """Return the number that the index by topic has for an index in the list."""
        return self._index.first + index - self._first

    def _event(self, number: int) -> Event:
        return self._events[self._first + number - self._index.first]

    def _entry(self, topic: str) -> TopicEntry:
        fields = list[Any]()
        for public in (False, True):
            newest = self._index.newest(self._index.next, topic, public=public)
            fields.append(None if newest is None else self._event(newest).position)
            fields.append(self._index.count(topic, public=public))
        return TopicEntry(topic, *fields)

    def _drop(self, end: int) -> None:
        """Drop the events before an index in the list."""
        dropped = self._events[self._first : end]
        if not dropped:
            return
        self._events[self._first : end] = [None] * len(dropped)  # type: ignore[list-item] # frees their memory
        self._first = end
        self._index.drop_first(dropped)
        for event in dropped:
            draft = event.draft
            self._bytes -= event.memory_bytes
            if draft.id:
                self._own_ids.drop(event)
            if draft.ended:
                self._topic_ends.drop(event)
        # Keep the newest dropped event: its id names the floor, from which a client may resume.
        self._at_floor = dropped[-1]
        self.floor = self._at_floor.position
        # Cut the list only when half of it is empty: each cut moves all the rest.
        if self._first * 2 > len(self._events):
            del self._events[: self._first]
            self._first = 0
