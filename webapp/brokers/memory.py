"""The log of one process: it lasts as long as the process does.

A log is born at a place of its own time, so that a cursor from before a restart lies below the
floor and its reader is told that events were lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gevent.event import Event as Signal

from ..core.events import Event, EventId
from ..core.window import Window
from ..errors import ServiceUnavailable
from .base import Bounds, Gap, conflict, now

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..core.events import Draft

_PATIENCE = 10  # seconds that a publisher waits for the follower
_PAGE = 256 << 10  # bytes handed to the follower at once


class MemoryBroker:
    """The newest events of this process, bounded in number, bytes and age.

    :param max_age: in seconds.
    """

    def __init__(self, max_events: int, max_bytes: int, max_age: float) -> None:
        self._log = Window(EventId(now(), 0), max_events, max_bytes)
        self._max_age = round(max_age * 1000)
        self._followed = self._log.head
        self._grown, self._trimmed = Signal(), Signal()
        self._closed = False

    def append(self, drafts: Sequence[Draft]) -> list[Event]:
        """Put all drafts in the log, or none; see `Broker.append`."""
        self._await_follower()
        self._expire()
        events, new, mine = list[Event](), list[Event](), dict[str, Event]()
        position = self._log.head
        for draft in drafts:
            own = draft.id
            event = (self._log.find(own) or mine.get(own)) if own else None
            if event is None:
                position = position.next(now())
                event = Event(position, draft)
                new.append(event)
                if own:
                    mine[own] = event
            elif event.draft != draft:
                raise conflict()
            events.append(event)
        self._keep(new)
        return events

    def follow(self, after: EventId) -> Iterator[list[Event] | Gap]:
        """Yield what comes after a place, in order, until the broker is closed."""
        while not self._closed:
            if events := self._log.after(after, _PAGE):
                yield events
                self._followed = after = events[-1].position
                self._trim()
                self._trimmed.set()
            else:
                self._grown.clear()
                self._grown.wait()

    def read(self, after: EventId, max_bytes: int) -> list[Event]:
        """Return a page of the events after a place."""
        return self._log.after(after, max_bytes)

    def before(self, position: EventId, limit: int, max_bytes: int) -> list[Event]:  # noqa: ARG002 - it is in memory
        """Return the newest events before a place, in the log's order."""
        return self._log.before(position, limit)

    def bounds(self) -> Bounds:
        """Return where the log begins and ends now."""
        self._expire()
        return Bounds(self._log.floor, self._log.head)

    def count(self) -> int:
        """Return how many events the log keeps now."""
        self._expire()
        return len(self._log)

    def position_of(self, id: str) -> EventId | None:
        """Return the place that an id names, or None where the log does not hold it."""
        return self._log.position_of(id)

    def close(self) -> None:
        """End `follow`."""
        self._closed = True
        self._grown.set()

    def _keep(self, events: list[Event]) -> None:
        self._log.append(events)
        self._trim()
        self._grown.set()

    def _await_follower(self) -> None:
        # The log is over its bounds only while the follower has not read what is to be dropped:
        # publishers that are faster than it wait, instead of filling the memory.
        while self._log.over_limit:
            self._trimmed.clear()
            if not self._trimmed.wait(_PATIENCE):
                detail = "More is published than can be handed on."
                raise ServiceUnavailable(detail, "Publish more slowly.")

    def _trim(self) -> None:
        # What the follower was not given stays: it could not tell that it is missing.
        self._log.trim(self._followed)

    def _expire(self) -> None:
        self._log.drop_before(EventId(now() - self._max_age, 0))
