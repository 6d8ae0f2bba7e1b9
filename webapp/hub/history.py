"""The event log as one process reads it: from the window, or else from the broker."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ..brokers.base import Gap
from ..core.events import EventId
from ..errors import ServiceUnavailable
from ..scheduling import TimeSlice
from .read_queue import TURN_S, ReadQueue
from .replays import Replays

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..brokers.base import Broker
    from ..core.events import Event
    from ..core.window import Window
    from .feeds import Feed
    from .read_queue import Reading

    T = TypeVar("T")

PAGE_BYTES = 64 << 10  # what a stream that catches up holds at once
_SCAN_PAGE_BYTES = 16 << 10  # the same where URI templates are matched, so that a turn ends in time
# What is counted before a stream's first bytes are sent, at most:
_MAX_COUNTED_EVENTS = 500
_MAX_COUNTED_WORK = 1000  # in units of `Feed.work`
_COUNTING_S = 0.002
_SCAN_EVENTS = 256  # looked at in one step backwards
_MAX_CONCURRENT_READS = 2  # hundreds at once would keep everything else from running


class Start(NamedTuple):
    """Where a subscriber asks to begin. The first field that is set counts; none: at the head."""

    cursor: str | None = None
    last: int | None = None
    since: int | None = None  # Unix milliseconds
    other_cursors: tuple[str, ...] = ()
    """Further cursors: of all that the hub knows, that with the highest position counts."""


class Found(NamedTuple):
    """Which of the next events after a position a feed matches."""

    seen: list[Event]
    upto: EventId
    """The position up to which the feed matches no others."""
    more: bool
    """Whether more events may follow; False: `upto` is the head at this moment."""
    gap: Gap | None = None


class History:
    """Reads past events. All methods raise `ServiceUnavailable` where the event log cannot be read.

    Reads wait in one queue. What was read is dropped before waiting for the next turn.

    :param max_replay_bytes: bytes that are being sent to all streams that catch up together.
    """

    def __init__(self, window: Window, broker: Broker, max_replay_bytes: int) -> None:
        self._window = window
        self._broker = broker
        self.replays = Replays(max_replay_bytes, lambda: self._queue.grant_turns())  # noqa: PLW0108 - made next
        self._queue = ReadQueue(_MAX_CONCURRENT_READS, self.replays.has_room)
        self._last_failure = 0.0

    def look(self, feed: Feed, reading: Reading, after: EventId) -> Found:
        """Return which of the next events after a position a feed matches. Where nothing follows it
        does not yield to the loop after it found that out.

        :raises ReadingCancelled: the reading was cancelled.
        """
        after = feed.skip_unmatched(after)
        if after >= self._window.head:
            return Found([], after, more=False)
        with self._queue.turn(reading, after):
            after = feed.skip_unmatched(after)
            page = self._page(after, reading.asked, _page_bytes(feed))
            if isinstance(page, Gap):
                return Found([], after, more=True, gap=page)
            if not page:
                return Found([], after, more=False)
            seen, upto = _matched(feed, page, reading)
        if not seen:
            feed.note_unmatched(after, upto)
        return Found(seen, upto, more=True)

    def _page(self, after: EventId, asked: float, max_bytes: int) -> list[Event] | Gap:
        """Return the next events after a position, or the gap there. No events: the position is the
        head at this moment.

        :param asked: when the read began to wait for its turn, in monotonic seconds.
        :param max_bytes: about how many bytes of events.
        """
        while after < self._window.floor:
            events, bounds = self._ask(asked, self._broker.read_page, after, max_bytes)
            if bounds.floor > after:
                return Gap(bounds.floor, "aged")
            if events:
                return events
        return self._window.after(after, max_bytes)

    def _ask(self, asked: float, function: Callable[..., T], *values: object) -> T:
        """Call the broker, but not if a call failed after this one began to wait: of many reads
        that wait for a broker that does not answer, only the first waits for its time-out.
        """
        if asked < self._last_failure:
            detail = "The event log was unavailable a moment ago."
            raise ServiceUnavailable(detail, "Try again.")
        try:
            return function(*values)
        except ServiceUnavailable:
            self._last_failure = monotonic()
            raise

    def count(self, feed: Feed, after: EventId) -> int | None:
        """Return how many events after a position a feed matches; None: counting takes too long."""
        if after < self._window.floor:
            return None
        missed = self._window.after(after, PAGE_BYTES)
        if len(missed) > _MAX_COUNTED_EVENTS or (
            missed and missed[-1].position < self._window.head
        ):
            return None
        if sum(map(feed.work, missed)) > _MAX_COUNTED_WORK:
            return None
        number, until = 0, monotonic() + _COUNTING_S
        for event in missed:
            number += feed.matches(event)
            if monotonic() > until:
                return None
        return number

    def resolve_start(
        self, start: Start, feed: Feed, reading: Reading
    ) -> tuple[EventId, str | None]:
        """Return the position to begin after, and why events before it cannot be sent, if any.

        :param start: a position other than the head.
        :param feed: `last` counts the events that it matches.
        :raises ReadingCancelled: the reading was cancelled.
        """
        if start.cursor is None:
            if start.last is not None:
                return self._position_before_last(start.last, feed, reading), None
            with self._queue.turn(reading, self._window.head):
                return self._position_before(EventId(start.since or 0, 0), reading), None
        cursors = (start.cursor, *start.other_cursors)
        found = [self._resolve_cursor(it, feed, reading) for it in cursors]
        known = [it for it in found if it[1] is None]
        # If none is known, the lowest position leaves out the fewest events.
        return max(known) if known else min(found)

    def _resolve_cursor(
        self, cursor: str, feed: Feed, reading: Reading
    ) -> tuple[EventId, str | None]:
        if known := self._find_in_window(cursor, feed):
            return known, None
        with self._queue.turn(reading, self._window.head):
            if cursor == "earliest":
                return self._ask(reading.asked, self._broker.bounds).floor, None
            return self._find_in_log(cursor, feed, reading)

    def _find_in_window(self, cursor: str, feed: Feed) -> EventId | None:
        if position := EventId.parse(cursor):
            return position if self._window.holds(position) else None
        seen = (it.position for it in self._window.with_id(cursor) if feed.permits(it))
        return next(seen, None)

    def _find_in_log(self, cursor: str, feed: Feed, reading: Reading) -> tuple[EventId, str | None]:
        """Return the position of a cursor. If it names an event that the subscriber must not see,
        the answer is that for an unknown one: ids of private events cannot be guessed.
        """
        # The cursor may be newer than what this process has read, so ask the event log first.
        known = self._ask(reading.asked, self._broker.position_of, cursor)
        if known and self._may_name(cursor, known, feed, reading):
            return known, None
        return self._ask(reading.asked, self._broker.bounds).gap_after(EventId.parse(cursor))

    def _may_name(self, cursor: str, known: EventId, feed: Feed, reading: Reading) -> bool:
        if EventId.parse(cursor):
            return True
        events = self._before(known.next(0), 1, reading)
        found = bool(events) and events[0].position == known
        return feed.permits(events[0]) if found else True  # a trimmed event was public

    def _position_before_last(self, count: int, feed: Feed, reading: Reading) -> EventId:
        """Return the position before the newest `count` events that a feed matches. The search for
        rare events ends when the others that it has passed would fill the window.
        """
        position, others = self._window.head, 0.0
        if not count:
            return position
        if count > len(self._window):
            with self._queue.turn(reading, position):
                if count >= self._ask(reading.asked, self._broker.count):
                    return self._ask(reading.asked, self._broker.bounds).floor
        position = position.next(0)
        while count and others < 1:
            began = position
            with self._queue.turn(reading, position):
                for event in self._backwards(position, reading):
                    position = event.position
                    if feed.matches(event):
                        count -= 1
                    else:
                        others += self._window.fraction_of([event])
                    if not count or others >= 1:
                        break
            if position == began:
                break
        with self._queue.turn(reading, position):
            return self._position_before(position, reading)

    def _backwards(self, position: EventId, reading: Reading) -> Iterator[Event]:
        """Yield events before a position, the newest first, until the time of a turn has passed."""
        turn = TimeSlice()
        while events := self._before(position, _SCAN_EVENTS, reading):
            pace = TimeSlice()  # reading them may have taken as long as a turn
            for event in reversed(events):
                reading.check()
                yield event
                pace.checkpoint()
                if pace.worked > TURN_S:
                    return
            if turn.worked > TURN_S:
                return
            position = events[0].position

    def _position_before(self, position: EventId, reading: Reading) -> EventId:
        events = self._before(position, 1, reading)
        return events[0].position if events else self._ask(reading.asked, self._broker.bounds).floor

    def _before(self, position: EventId, limit: int, reading: Reading) -> list[Event]:
        # The event log may already hold newer events than the window.
        in_window = position <= self._window.head.next(0)
        found = self._window.before(position, limit) if in_window else []
        return found or self._ask(reading.asked, self._broker.before, position, limit, PAGE_BYTES)


def _page_bytes(feed: Feed) -> int:
    return min(PAGE_BYTES, _SCAN_PAGE_BYTES) if feed.matched_last else PAGE_BYTES


def _matched(feed: Feed, events: Sequence[Event], reading: Reading) -> tuple[list[Event], EventId]:
    """Return which events a feed matches, until the time of a turn has passed, and up to which
    position these are all.
    """
    pace, upto = TimeSlice(), events[-1].position
    seen: list[Event] = []
    for event in events:
        reading.check()
        if feed.matches(event):
            seen.append(event)
        pace.checkpoint()
        if pace.worked > TURN_S:
            upto = event.position
            break
    return seen, upto
