"""A snapshot: the newest event of each topic that a feed matches, as of one position.

It is taken in passes. Each collects positions from the index by topic, and holds a bounded number
of them, the oldest; then the events at these positions are read, page by page. The event log goes
on meanwhile, but what it had at the snapshot's position stays as it was, until it is trimmed.
"""

from __future__ import annotations

from bisect import bisect_right
from functools import partial
from heapq import nsmallest
from typing import TYPE_CHECKING, NamedTuple

from ..brokers.base import MAX_INDEX_TOPICS
from ..core.events import Event, EventId
from ..core.topics import grants
from ..scheduling import cooperative
from .topic_lookup import prefixes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..core.topic_index import TopicEntry
    from .feeds import Feed
    from .log_reader import LogReader
    from .read_queue import Reading

_MAX_HELD_POSITIONS = 100_000  # by one snapshot
_MIN_HELD_POSITIONS = 1000  # by one snapshot, whatever the others hold
_POSITION_BYTES = 128
_SCAN_EVENTS = 256  # of a topic, looked at in one turn
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
        self._free = max_bytes // _POSITION_BYTES

    def begin(self, feed: Feed) -> Snapshot:
        """Return a new snapshot for one stream."""
        return Snapshot(self._reader, feed, self)

    def reserve(self) -> int:
        """Return how many positions a snapshot may hold in a pass; `release` must follow."""
        count = max(_MIN_HELD_POSITIONS, min(_MAX_HELD_POSITIONS, self._free // 2))
        self._free -= count
        return count

    def release(self, count: int) -> None:
        """Let others hold as many."""
        self._free += count


class Snapshot:
    """The snapshot that one stream is sent. Call `close` when it is not needed any more."""

    def __init__(self, reader: LogReader, feed: Feed, snapshots: Snapshots) -> None:
        self.position: EventId | None = None
        """As of where it is taken: the end of the event log when it was read first."""
        self.ended = False
        """Whether it has been read to its end."""
        self._reader = reader
        self._feed = feed
        self._snapshots = snapshots
        self._reserved = 0  # how many positions it may hold
        self._held: Sequence[EventId] = ()
        self._next = 0  # index of the position that is read next
        self._has_more = True  # than the positions that are held
        self._collected_upto = _BEFORE_ALL
        self._pages: Iterator[list[_Topic]] | None = None  # that a pass has not looked at
        self._found: set[EventId] = set()  # in a pass

    def read(self, reading: Reading) -> list[Event]:
        """Take a step. Return the next events, in the event log's order, which may be none.

        :raises ReadingCancelled: the reading was cancelled.
        :raises ServiceUnavailable: the event log cannot be read. It may be called again.
        """
        if self.position is None:
            with self._reader.turn(reading):
                broker = self._reader.broker
                self.position = self._reader.ask(reading, broker.bounds).head
        if self._next == len(self._held) and self._has_more:
            self._collect(reading, self.position)
            events = list[Event]()
        else:
            events = self._read_held(reading)
        self.ended = self._next == len(self._held) and not self._has_more
        return events

    def close(self) -> None:
        """Free its memory."""
        self._held, self._next, self._pages = (), 0, None
        self._found.clear()
        self._snapshots.release(self._reserved)
        self._reserved = 0

    def _read_held(self, reading: Reading) -> list[Event]:
        positions = self._held[self._next : self._next + MAX_INDEX_TOPICS]
        with self._reader.turn(reading, positions[0]):
            events = self._reader.at(reading, positions)
        upto = events[-1].position if events else positions[-1]
        self._next = bisect_right(self._held, upto)
        return [event for event in events if self._feed.matches(event)]

    def _collect(self, reading: Reading, at: EventId) -> None:
        """Look at some topics. At the end of the pass, hold the oldest positions that it found."""
        if self._pages is None:
            self.close()
            self._reserved = self._snapshots.reserve()
        # After an error the pass begins again.
        pages, self._pages = self._pages or self._topics(reading, at), None
        for topics in pages:
            positions = (self._newest_seen(reading, at, it) for it in cooperative(topics))
            self._found.update(it for it in positions if it and it > self._collected_upto)
            if len(self._found) > 2 * self._reserved:
                # One more than it may hold shows that there are more.
                self._found = set(nsmallest(self._reserved + 1, self._found))
            self._pages = pages
            return
        self._has_more = len(self._found) > self._reserved
        self._held, self._next = sorted(self._found)[: self._reserved], 0
        self._found.clear()
        if self._held:
            self._collected_upto = self._held[-1]

    def _topics(self, reading: Reading, at: EventId) -> Iterator[list[_Topic]]:
        """Yield all topics that the feed matches, some at a time."""
        broker, heads = self._reader.broker, tuple(prefixes(self._feed))
        if exact := [it for it in self._feed.matcher.exact if not it.startswith(heads)]:
            with self._reader.turn(reading, at):
                topics = self._newest(reading, exact, at)
            yield topics
        for prefix in heads:
            last, more = "", True
            while more:
                with self._reader.turn(reading, at):
                    entries = self._reader.ask(
                        reading, broker.topics, prefix, last, MAX_INDEX_TOPICS
                    )
                    topics = self._newest_of_entries(reading, entries, at)
                yield topics
                more = len(entries) == MAX_INDEX_TOPICS
                last = entries[-1].topic if entries else last

    def _newest_of_entries(
        self, reading: Reading, entries: list[TopicEntry], at: EventId
    ) -> list[_Topic]:
        """Return those of the directory's entries that the feed matches, as of a position."""
        matches = self._feed.matcher.matches
        found = [it for it in cooperative(entries) if matches(it.topic)]
        reading.check()
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

    def _newest_seen(self, reading: Reading, at: EventId, topic: _Topic) -> EventId | None:
        """Return the position of a topic's newest event that the feed may see."""
        if topic.newest == topic.public or not self._feed.grant:
            return topic.public
        if grants(self._feed.grant, topic.name):
            return topic.newest
        # It is private, but another one of its topics may be granted.
        position, events = at.next(0), list[Event]()
        while events or position > at:
            with self._reader.turn(reading, position):
                events = self._reader.before(reading, position, _SCAN_EVENTS, [topic.name])
            for event in reversed(events):
                reading.check()
                if event.position == topic.public or self._feed.permits(event):
                    return event.position
                position = event.position
        return None
