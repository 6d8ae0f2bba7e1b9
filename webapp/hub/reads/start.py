"""Where a stream begins: at a cursor, a time, or before the newest events."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

from ...brokers.base import MAX_INDEX_TOPICS
from ...core.events import EventId
from ...scheduling import TimeSlice
from ..read_queue import TURN_S
from .topic_lookup import exact_topics

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ...core.events import Event
    from ..delivery.feeds import Feed
    from ..read_queue import Reading
    from .log_reader import LogReader
    from .topic_lookup import TopicLookup

_SCAN_EVENTS = 256  # looked at in one step backwards
_LOOKED_UP_POSITIONS = 10_000  # at once, of events with one own id
_BEFORE_ALL = EventId(0, 0)


class Start(NamedTuple):
    """Where a subscriber asks to begin. A cursor counts first, then `latest`, `last`, and `since`;
    none of them: at the head.
    """

    cursor: str | None = None
    last: int | None = None
    since: int | None = None  # Unix milliseconds
    other_cursors: tuple[str, ...] = ()
    """Further cursors: of all that the hub knows, that with the highest position counts."""
    latest: bool = False
    """Begin with a snapshot: the newest event of each topic."""

    @property
    def is_read(self) -> bool:
        """Whether the event log has to be read to find it."""
        past = self.last is not None or self.since is not None
        return self.cursor is not None or (past and not self.latest)


FROM_NOW = Start()


class StartFinder:
    """Finds in the event log where streams begin. All methods raise `ServiceUnavailable` where the
    event log cannot be read.
    """

    def __init__(self, reader: LogReader, topics: TopicLookup) -> None:
        self._reader = reader
        self._window = reader.window
        self._topics = topics

    def find(
        self, start: Start, feed: Feed, reading: Reading, end: EventId | None = None
    ) -> tuple[EventId, str | None]:
        """Return the position to begin after, and why events before it cannot be sent, if any.

        :param feed: `last` counts the events that it matches, and own ids are those of such.
        :param end: where the event log ends; None: the head.
        :raises ReadingCancelled: the reading was cancelled.
        """
        if not start.is_read:
            return end or self._window.head, None
        if start.cursor is None:
            if start.last is not None:
                return self._position_before_last(start.last, feed, reading, end), None
            with self._reader.turn(reading):
                since = EventId(start.since or 0, 0)
                return self._reader.position_before(reading, since), None
        cursors = (start.cursor, *start.other_cursors)
        found = [self._resolve_cursor(it, feed, reading) for it in cursors]
        known = [it for it in found if it[1] is None]
        # If none is known, the lowest position leaves out the fewest events.
        return max(known) if known else min(found)

    def _resolve_cursor(
        self, cursor: str, feed: Feed, reading: Reading
    ) -> tuple[EventId, str | None]:
        position, broker = EventId.parse(cursor), self._reader.broker
        if position and self._window.holds(position):
            return position, None
        with self._reader.turn(reading):
            if cursor == "earliest":
                return self._reader.floor(reading), None
            # It may be newer than what this process has read, so ask the event log.
            known = position and self._reader.ask(reading, broker.position_of, cursor)
        if known := known or self._position_of_own_id(cursor, feed, reading):
            return known, None
        with self._reader.turn(reading):
            return self._reader.ask(reading, broker.bounds).gap_after(position)

    def _position_of_own_id(self, id: str, feed: Feed, reading: Reading) -> EventId | None:
        """Return the position of the oldest event with an own id that a feed matches. An event
        that its subscribers must not see is not found: ids of private events cannot be guessed.
        """
        if EventId.parse(id):
            return None
        broker, topics = self._reader.broker, exact_topics(feed)
        found, after = [_BEFORE_ALL], None
        while found:
            with self._reader.turn(reading):
                found = self._reader.ask(
                    reading, broker.positions_of, id, after, _LOOKED_UP_POSITIONS, topics
                )
            if seen := self._first_seen(found, id, feed, reading):
                return seen
            after = found[-1] if found else None
        return None

    def _first_seen(
        self, positions: Sequence[EventId], id: str, feed: Feed, reading: Reading
    ) -> EventId | None:
        """Return the first of some positions of events with an own id that a feed matches."""
        reader, start = self._reader, 0
        while some := positions[start : start + MAX_INDEX_TOPICS]:
            with reader.turn(reading, some[0]):
                events = {event.position: event for event in reader.at(reading, some)}
                upto = max(events, default=some[-1])
                for position in some[: bisect_right(some, upto)]:
                    reading.check()
                    event = events.get(position)
                    if feed.matches(event) if event else self._is_at_floor(position, id, reading):
                        return position
            start += bisect_right(some, upto)
        return None

    def _is_at_floor(self, position: EventId, id: str, reading: Reading) -> bool:
        """Whether the own id of a trimmed event counts: it is at the floor, and was public."""
        return position in self._reader.ask(reading, self._reader.broker.positions_of, id, None, 1)

    def _position_before_last(
        self, count: int, feed: Feed, reading: Reading, end: EventId | None
    ) -> EventId:
        """Return the position before the newest `count` events that a feed matches."""
        reader, position = self._reader, end or self._window.head
        if not count:
            return position
        if count > len(self._window):
            with reader.turn(reading):
                if count >= reader.ask(reading, reader.broker.count):
                    return reader.floor(reading)
        names = exact_topics(feed)
        position, count = self._go_back(count, feed, reading, position.next(0), names)
        if count and names is None:
            # The rest of a pattern's events may be rare: look for them in the index.
            names = self._topics.find(feed, reading, _BEFORE_ALL, position).names
            if names is not None:
                position, count = self._go_back(count, feed, reading, position, names)
        with reader.turn(reading, position):
            return reader.position_before(reading, position)

    def _go_back(
        self,
        count: int,
        feed: Feed,
        reading: Reading,
        position: EventId,
        names: Sequence[str] | None,
    ) -> tuple[EventId, int]:
        """Return the position of the oldest of the newest `count` events before a position that a
        feed matches, and how many are missing. The search ends when the other events that it has
        passed would fill the window.
        """
        others = 0.0
        while count and others < 1:
            began = position
            with self._reader.turn(reading, position):
                for event in self._backwards(position, reading, names):
                    position = event.position
                    if feed.matches(event):
                        count -= 1
                    else:
                        others += self._window.fraction_of([event])
                    if not count or others >= 1:
                        break
            if position == began:
                break
        return position, count

    def _backwards(
        self, position: EventId, reading: Reading, names: Sequence[str] | None
    ) -> Iterator[Event]:
        """Yield events before a position, the newest first, until the time of a turn has passed.

        :param names: only those that have one of these topics; None: all.
        """
        turn = TimeSlice()
        while events := self._reader.before(reading, position, _SCAN_EVENTS, names):
            time_slice = TimeSlice()  # reading them may have taken as long as a turn
            for event in reversed(events):
                reading.check()
                yield event
                time_slice.checkpoint()
                if time_slice.worked > TURN_S:
                    return
            if turn.worked > TURN_S:
                return
            position = events[0].position
