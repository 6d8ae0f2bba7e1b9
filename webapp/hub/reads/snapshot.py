"""A snapshot: the newest event of each topic that a feed matches, as of one position.

It is taken in passes. Each collects positions from the index by topic, and holds a bounded number
of them, the oldest; then the events at these positions are read, page by page. The event log goes
on meanwhile, but what it had at the snapshot's position stays as it was, until it is trimmed.
"""

from __future__ import annotations

from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from ...brokers.base import MAX_INDEX_TOPICS
from ...core.events import Event, EventId
from ...core.globs import globs_of
from ...core.sorted_set import SortedSet
from ...core.topics import grants
from .reservations import Reservations
from .topic_lookup import prefixes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...core.topic_index import TopicEntry
    from ..delivery.feeds import Feed
    from ..read_queue import Reading
    from .log_reader import LogReader

_MAX_HELD_POSITIONS = 100_000  # by one snapshot
_MIN_HELD_POSITIONS = 1000  # by one snapshot, whatever the others hold
_POSITION_BYTES = 128
_SCAN_EVENTS = 256  # of a topic, looked at in one turn
_STEP_S = 0.5  # after which a step ends: the client is sent heartbeats between two
_BEFORE_ALL = EventId(0, 0)


class _Topic(NamedTuple):
    name: str
    newest: EventId | None  # the position of its newest event
    public: EventId | None  # of its newest one that is not private


class Snapshots:
    """Begins snapshots, and bounds what they hold together. The more they hold, the shorter are the
    passes of a new one.

    :param max_bytes: of all snapshots together.
    """

    def __init__(self, reader: LogReader, max_bytes: int) -> None:
        self._reader = reader
        self.positions = Reservations(
            max_bytes // _POSITION_BYTES, _MIN_HELD_POSITIONS, _MAX_HELD_POSITIONS
        )

    def begin(self, feed: Feed) -> Snapshot:
        """Return a new snapshot for one stream."""
        return Snapshot(self._reader, feed, self.positions)


class Snapshot:
    """The snapshot that one stream is sent. Call `close` when it is not needed any more."""

    def __init__(self, reader: LogReader, feed: Feed, reservations: Reservations) -> None:
        self.position: EventId | None = None
        """As of where it is taken: the end of the event log when it was read first."""
        self.ended = False
        """Whether it has been read to its end."""
        self._reader = reader
        self._feed = feed
        self._reservations = reservations
        self._client = ""  # that has reserved them
        self._reserved = 0  # how many positions it may hold
        self._held = SortedSet[EventId]()
        self._next: EventId | None = None  # of the positions that are held, the one read next
        self._has_more = True  # than the positions that are held
        self._collected_upto = _BEFORE_ALL
        self._rest: Iterator[EventId | None] | None = None  # what a pass has not looked at
        self._found = SortedSet[EventId]()  # in a pass

    def read(self, reading: Reading) -> list[Event]:
        """Take a step. Return the next events, in the event log's order, which may be none.

        :raises ReadingCancelled: the reading was cancelled.
        :raises ServiceUnavailable: the event log cannot be read. It may be called again.
        """
        if self.position is None:
            with self._reader.turn(reading):
                broker = self._reader.broker
                self.position = self._reader.ask(reading, broker.bounds).head
        if self._next is None and self._has_more:
            self._collect(reading, self.position)
            events = list[Event]()
        else:
            events = self._read_held(reading, self._next) if self._next else []
        self.ended = self._next is None and not self._has_more
        return events

    def close(self) -> None:
        """Free its memory."""
        self._next = self._rest = None
        self._held, self._found = SortedSet(), SortedSet()
        self._keep(0)

    def _keep(self, count: int) -> None:
        """Release what it has reserved, except for some positions."""
        if self._reserved > count:
            self._reservations.release(self._client, self._reserved - count)
            self._reserved = count

    def _read_held(self, reading: Reading, start: EventId) -> list[Event]:
        positions = self._held.first_from(start, MAX_INDEX_TOPICS)
        with self._reader.turn(reading, positions[0]):
            events = self._reader.at(reading, positions)
        visible = (it for it in reading.cooperative(events) if not it.is_hidden)
        found = [it for it in visible if self._feed.matches(it)]
        upto = events[-1].position if events else positions[-1]
        self._next = next(iter(self._held.first_from(upto.next(0), 1)), None)
        return found

    def _collect(self, reading: Reading, at: EventId) -> None:
        """Look at some topics. At the end of the pass, hold the oldest positions that it found."""
        if self._rest is None:
            self.close()
            self._client = reading.client
            self._reserved = self._reservations.reserve(self._client)
        # After an error the pass begins again.
        rest, self._rest = self._rest or self._positions(reading, at), None
        began = monotonic()
        for position in rest:
            if position and position > self._collected_upto:
                self._found.add(position)
                self._found.keep_first(self._reserved + 1)  # one more shows that there are more
            if monotonic() - began > _STEP_S:
                self._rest = rest
                return
        self._has_more = len(self._found) > self._reserved
        self._found.keep_first(self._reserved)
        self._held, self._found = self._found, SortedSet()
        self._keep(len(self._held))
        self._next = self._held.first
        self._collected_upto = self._held.last or self._collected_upto

    def _positions(self, reading: Reading, at: EventId) -> Iterator[EventId | None]:
        """Yield the position of the newest event of each topic that the feed may see. None: another
        step was taken.
        """
        for topics in self._topics(reading, at):
            for topic in reading.cooperative(topics):
                yield from self._newest_seen(reading, at, topic)
            yield None

    def _topics(self, reading: Reading, at: EventId) -> Iterator[list[_Topic]]:
        """Yield all topics that the feed matches, some at a time."""
        broker, heads = self._reader.broker, tuple(prefixes(self._feed))
        if exact := [it for it in self._feed.matcher.exact if not it.startswith(heads)]:
            with self._reader.turn(reading, at):
                topics = self._newest(reading, exact, at)
            yield topics
        for prefix in heads:
            last: str | None = ""
            globs = globs_of(self._feed.matcher, prefix)
            while last is not None:
                with self._reader.turn(reading, at):
                    entries, last = self._reader.ask(
                        reading, broker.topics, prefix, last, MAX_INDEX_TOPICS, globs
                    )
                    topics = self._newest_of_entries(reading, entries, at)
                yield topics

    def _newest_of_entries(
        self, reading: Reading, entries: list[TopicEntry], at: EventId
    ) -> list[_Topic]:
        """Return those of the directory's entries that the feed matches, as of a position."""
        matches = self._feed.matcher.matches
        found = [it for it in reading.cooperative(entries) if matches(it.topic)]
        known = [_Topic(it.topic, it.newest, it.public_newest) for it in found if it.newest <= at]
        changed = [it.topic for it in found if it.newest > at]
        return known + (self._newest(reading, changed, at) if changed else [])

    def _newest(self, reading: Reading, topics: list[str], at: EventId) -> list[_Topic]:
        newest, before = self._reader.broker.newest, at.next(0)
        public = self._reader.ask(reading, partial(newest, public=True), topics, before)
        if not self._feed.grant:
            return list(map(_Topic, topics, public, public))
        found = self._reader.ask(reading, partial(newest, public=False), topics, before)
        return list(map(_Topic, topics, found, public))

    def _newest_seen(
        self, reading: Reading, at: EventId, topic: _Topic
    ) -> Iterator[EventId | None]:
        """Yield the position of a topic's newest event that the feed may see, if there is one."""
        if topic.newest == topic.public or not self._feed.grant:
            yield topic.public
        elif grants(self._feed.grant, topic.name):
            yield topic.newest
        else:
            yield from self._newest_permitted(reading, at, topic)

    def _newest_permitted(
        self, reading: Reading, at: EventId, topic: _Topic
    ) -> Iterator[EventId | None]:
        # Its newest event is private, but another topic of that may be granted.
        position, events = at.next(0), list[Event]()
        while events or position > at:
            with self._reader.turn(reading, position):
                events = self._reader.before(reading, position, _SCAN_EVENTS, [topic.name])
            for event in reading.cooperative(reversed(events)):
                position = event.position
                if position == topic.public or self._feed.permits(event):
                    yield position
                    return
            yield None
