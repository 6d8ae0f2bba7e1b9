"""The log as one process sees it: the window at hand, and the broker behind it."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from gevent.lock import BoundedSemaphore

from webapp.brokers.base import Gap
from webapp.errors import Unavailable
from webapp.events import EventId
from webapp.pace import Pace

if TYPE_CHECKING:
    from collections.abc import Callable

    from webapp.brokers.base import Broker
    from webapp.events import Event
    from webapp.window import Window

    Sees = Callable[[Event], bool]

PAGE_BYTES = 64 << 10  # what a reader that catches up holds at once
_COUNTED = 500  # events that a first answer is held up for
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


class History:
    """Reads what was published, wherever it is; raises `Unavailable` where it cannot."""

    def __init__(self, window: Window, broker: Broker) -> None:
        self._window = window
        self._broker = broker
        self._turns = BoundedSemaphore(_AT_ONCE)
        self._failed_at = 0.0

    def page(self, after: EventId) -> Page:
        """Return the next events after a place; none means that it is the head, this instant."""
        while after < self._window.floor:
            events, floor = self._read(after)
            if floor > after:
                return Page([], Gap(floor, "aged"))
            if events:
                return Page(events)
        return Page(self._window.since(after, PAGE_BYTES))

    def _read(self, after: EventId) -> tuple[list[Event], EventId]:
        """Return a page of the log, and its floor."""
        asked = monotonic()
        with self._turns:
            if asked < self._failed_at:  # it would be the same for each that waits
                detail = "The log was away a moment ago."
                raise Unavailable(detail, "Try again.")
            try:
                events = self._broker.read(after, PAGE_BYTES)
                # Asked after the page was read: what was trimmed in between is told, not hidden.
                return events, self._broker.bounds().floor
            except Unavailable:
                self._failed_at = monotonic()
                raise

    def count(self, sees: Sees, after: EventId) -> int | None:
        """Return how many events one sees after a place; None where that is not quick to tell."""
        if after < self._window.floor:
            return None
        missed = self._window.since(after, PAGE_BYTES)
        if len(missed) > _COUNTED or (missed and missed[-1].place < self._window.head):
            return None
        return sum(map(sees, missed))

    def place(self, start: Start, sees: Sees) -> tuple[EventId, str | None]:
        """Return the place to begin from, and why events before it are lost, if any are.

        :param sees: whether the reader sees an event; `last` counts those.
        """
        if start.cursor == "earliest":
            return self._broker.bounds().floor, None
        if start.cursor is not None:
            return self._settle(start.cursor)
        if start.last is not None:
            return self._rewind(start.last, sees), None
        if start.since is not None:
            return self._place_before(EventId(start.since, 0)), None
        return self._window.head, None

    def _settle(self, cursor: str) -> tuple[EventId, str | None]:
        # What is not here this process may only not have read so far: the log itself knows.
        if known := self._window.locate(cursor) or self._broker.locate(cursor):
            return known, None
        place, (floor, head) = EventId.parse(cursor), self._broker.bounds()
        return (floor, "aged") if place and place < floor else (head, "unknown")

    def _rewind(self, count: int, sees: Sees) -> EventId:
        """Return the place before the newest `count` events that one sees; what is rare is looked
        for only until others would have filled the window, or it would be in all of the log.
        """
        if not count:
            return self._window.head
        place, others, pace = self._window.head.next(0), 0.0, Pace()
        while others < 1 and (events := self._before(place, _SCAN)):
            for event in reversed(events):
                if sees(event):
                    count -= 1
                else:
                    others += self._window.share([event])
                if not count:
                    return self._place_before(event.place)
                pace.keep()
            place = events[0].place
        return self._place_before(place)

    def _place_before(self, place: EventId) -> EventId:
        events = self._before(place, 1)
        return events[0].place if events else self._broker.bounds().floor

    def _before(self, place: EventId, limit: int) -> list[Event]:
        return self._window.before(place, limit) or self._broker.before(place, limit, PAGE_BYTES)
