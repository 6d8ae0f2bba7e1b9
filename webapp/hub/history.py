"""The log as one process sees it: the window at hand, and the broker behind it."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ..brokers.base import Gap
from ..core.events import EventId
from ..errors import ServiceUnavailable
from ..scheduling import TimeSlice
from .read_queue import TURN_S, Turns
from .replays import Replays

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..brokers.base import Broker
    from ..core.events import Event
    from ..core.window import Window
    from .feeds import Feed
    from .read_queue import Reading

    T = TypeVar("T")

PAGE_BYTES = 64 << 10  # what a reader that catches up holds at once
_SCAN_PAGE_BYTES = 16 << 10  # where URI templates are matched, so that a turn ends in time
_COUNTED = 500  # events that a first answer is held up for
_COUNTED_WORK = 1000  # as `Feed.work` has it, for the same
_COUNTING_S = 0.002  # for so long
_SCAN = 256  # events looked at in one step backwards
_AT_ONCE = 2  # readers that read a page: hundreds at once would keep all others from the loop


class Start(NamedTuple):
    """Where a reader asks to begin; the first that is set counts, none means the head."""

    cursor: str | None = None
    last: int | None = None
    since: int | None = None  # Unix milliseconds


class Page(NamedTuple):
    """The next events after a place."""

    events: list[Event]
    gap: Gap | None = None
    """What lies between the place and where the log begins now is lost."""


class Found(NamedTuple):
    """What a feed's readers see of the next events after a place."""

    seen: list[Event]
    upto: EventId
    """Up to where that is all."""
    more: bool
    """Whether there may be more; False: `upto` is the head, this instant."""
    gap: Gap | None = None


class History:
    """Reads what was published, wherever it is; raises `ServiceUnavailable` where it cannot.

    All that looks back takes its turns in one queue. What is read is dropped before the next turn
    is waited for.

    :param max_replay_bytes: of all that is being sent to those that catch up.
    """

    def __init__(self, window: Window, broker: Broker, max_replay_bytes: int) -> None:
        self._window = window
        self._broker = broker
        self.replays = Replays(max_replay_bytes, self._go_on)
        self._turns = Turns(_AT_ONCE, self.replays.has_room)
        self._failed_at = 0.0

    def _go_on(self) -> None:
        self._turns.go_on()

    def look(self, feed: Feed, reading: Reading, after: EventId) -> Found:
        """Return what a feed's readers see of the next events after a place. It does not yield to
        the loop where nothing follows.

        :raises Left: the reading was cancelled.
        """
        after = feed.skip(after)
        if after >= self._window.head:
            return Found([], after, more=False)
        with self._turns.turn(reading, after):
            after = feed.skip(after)
            page = self._page(after, reading.asked, _page_bytes(feed))
            if page.gap or not page.events:
                return Found([], after, bool(page.gap), page.gap)
            seen, upto = _matched(feed, page.events, reading)
        if not seen:
            feed.note_blank(after, upto)
        return Found(seen, upto, more=True)

    def _page(self, after: EventId, asked: float, max_bytes: int) -> Page:
        """Return the next events after a place; none means that it is the head, this instant.

        :param asked: when it was asked for, a monotonic time.
        :param max_bytes: about how many bytes of events.
        """
        while after < self._window.floor:
            events, bounds = self._ask(asked, self._broker.read_page, after, max_bytes)
            if bounds.floor > after:
                return Page([], Gap(bounds.floor, "aged"))
            if events:
                return Page(events)
        return Page(self._window.after(after, max_bytes))

    def _ask(self, asked: float, function: Callable[..., T], *values: object) -> T:
        """Ask the log, unless it failed while this waited to ask: it would be the same for all."""
        if asked < self._failed_at:
            detail = "The log was away a moment ago."
            raise ServiceUnavailable(detail, "Try again.")
        try:
            return function(*values)
        except ServiceUnavailable:
            self._failed_at = monotonic()
            raise

    def count(self, feed: Feed, after: EventId) -> int | None:
        """Return how many events a feed's readers see after a place; None where that is not quick
        to tell.
        """
        if after < self._window.floor:
            return None
        missed = self._window.after(after, PAGE_BYTES)
        if len(missed) > _COUNTED or (missed and missed[-1].position < self._window.head):
            return None
        if sum(map(feed.work, missed)) > _COUNTED_WORK:
            return None
        number, until = 0, monotonic() + _COUNTING_S
        for event in missed:
            number += feed.matches(event)
            if monotonic() > until:
                return None
        return number

    def position(self, start: Start, feed: Feed, reading: Reading) -> tuple[EventId, str | None]:
        """Return the place to begin from, and why events before it are lost, if any are.

        :param feed: whose readers see an event; `last` counts those.
        :raises Left: the reading was cancelled.
        """
        if start.cursor is None and start.last is not None:
            return self._rewind(start.last, feed, reading), None
        if start.cursor and (known := self._at_hand(start.cursor, feed)):
            return known, None
        if start == Start():
            return self._window.head, None
        with self._turns.turn(reading, self._window.head):
            if start.cursor is None:
                return self._place_before(EventId(start.since or 0, 0), reading), None
            if start.cursor == "earliest":
                return self._ask(reading.asked, self._broker.bounds).floor, None
            return self._settle(start.cursor, feed, reading)

    def _at_hand(self, cursor: str, feed: Feed) -> EventId | None:
        event = self._window.find(cursor)
        if event and not feed.permits(event):
            return None
        return self._window.position_of(cursor)

    def _settle(self, cursor: str, feed: Feed, reading: Reading) -> tuple[EventId, str | None]:
        """Return the place of a cursor. One that names an event which the reader may not see is
        answered as one that names none: nobody learns of private events by trying ids.
        """
        # What is not here this process may only not have read so far: the log itself knows.
        known = self._ask(reading.asked, self._broker.position_of, cursor)
        if known and self._may_name(cursor, known, feed, reading):
            return known, None
        return self._ask(reading.asked, self._broker.bounds).gap_after(EventId.parse(cursor))

    def _may_name(self, cursor: str, known: EventId, feed: Feed, reading: Reading) -> bool:
        if EventId.parse(cursor):
            return True
        events = self._before(known.next(0), 1, reading)
        own = bool(events) and events[0].position == known
        return feed.permits(events[0]) if own else True  # one that was trimmed was public

    def _rewind(self, count: int, feed: Feed, reading: Reading) -> EventId:
        """Return the place before the newest `count` events that one sees; what is rare is looked
        for only until others would have filled the window, or it would be in all of the log.
        """
        position, others = self._window.head, 0.0
        if not count:
            return position
        if count > len(self._window):
            with self._turns.turn(reading, position):
                if count >= self._ask(reading.asked, self._broker.count):
                    return self._ask(reading.asked, self._broker.bounds).floor
        position = position.next(0)
        while count and others < 1:
            began = position
            with self._turns.turn(reading, position):
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
        with self._turns.turn(reading, position):
            return self._place_before(position, reading)

    def _backwards(self, position: EventId, reading: Reading) -> Iterator[Event]:
        """Yield events before a position, the newest first, until the time of a turn has passed."""
        turn = TimeSlice()
        while events := self._before(position, _SCAN, reading):
            pace = TimeSlice()  # to read them may take as long as a turn
            for event in reversed(events):
                reading.check()
                yield event
                pace.checkpoint()
                if pace.worked > TURN_S:
                    return
            if turn.worked > TURN_S:
                return
            position = events[0].position

    def _place_before(self, position: EventId, reading: Reading) -> EventId:
        events = self._before(position, 1, reading)
        return events[0].position if events else self._ask(reading.asked, self._broker.bounds).floor

    def _before(self, position: EventId, limit: int, reading: Reading) -> list[Event]:
        # The log may already hold more than the window.
        known = position <= self._window.head.next(0)
        at_hand = self._window.before(position, limit) if known else []
        return at_hand or self._ask(reading.asked, self._broker.before, position, limit, PAGE_BYTES)


def _page_bytes(feed: Feed) -> int:
    return min(PAGE_BYTES, _SCAN_PAGE_BYTES) if feed.asked.templates else PAGE_BYTES


def _matched(feed: Feed, events: Sequence[Event], reading: Reading) -> tuple[list[Event], EventId]:
    """Return what a feed's readers see of some events, and up to where that is all: as far as the
    time of a turn goes.
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
