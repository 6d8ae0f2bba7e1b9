"""The event log of one process. It is lost when the process ends.

A new event log begins at a position of the current time. So a cursor from before a restart lies
below its floor, and its subscriber learns that events were lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gevent.event import Event as Signal

from ..core.events import Event, EventId
from ..core.window import Window
from .base import Bounds, Gap, conflict, now, too_fast

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..core.events import Draft

_PUBLISH_TIMEOUT_S = 10  # how long a publisher waits for the follower
_PAGE_BYTES = 256 << 10  # what the follower gets at once


class MemoryBroker:
    """The newest events of this process, bounded in number, bytes and age.

    :param max_age: in seconds.
    """

    def __init__(self, max_events: int, max_bytes: int, max_age: float) -> None:
        self._window = Window(EventId(now(), 0), max_events, max_bytes)
        self._max_age_ms = round(max_age * 1000)
        self._followed_up_to = self._window.head
        self._appended, self._trimmed = Signal(), Signal()
        self._closed = False

    def append(self, drafts: Sequence[Draft]) -> list[Event]:
        """Append all drafts, or none; see `Broker.append`."""
        self._wait_for_follower()
        self._expire()
        events, new, by_custom_id = list[Event](), list[Event](), dict[str, Event]()
        position = self._window.head
        for draft in drafts:
            custom = draft.id
            event = (self._window.find(custom) or by_custom_id.get(custom)) if custom else None
            if event is None:
                position = position.next(now())
                event = Event(position, draft)
                new.append(event)
                if custom:
                    by_custom_id[custom] = event
            elif event.draft != draft:
                raise conflict()
            events.append(event)
        self._window.append(new)
        self._trim()
        self._appended.set()
        return events

    def follow(self, after: EventId) -> Iterator[list[Event] | Gap]:
        """Yield the events after a position, in order, until the broker is closed."""
        while not self._closed:
            if events := self._window.after(after, _PAGE_BYTES):
                yield events
                self._followed_up_to = after = events[-1].position
                self._trim()
                self._trimmed.set()
            else:
                self._appended.clear()
                self._appended.wait()

    def read(self, after: EventId, max_bytes: int) -> list[Event]:
        """Return the next events after a position."""
        return self._window.after(after, max_bytes)

    def read_page(self, after: EventId, max_bytes: int) -> tuple[list[Event], Bounds]:
        """Return a page of the events after a position, and the bounds then."""
        return self.read(after, max_bytes), self.bounds()

    def before(self, position: EventId, limit: int, max_bytes: int) -> list[Event]:  # noqa: ARG002 - it is in memory
        """Return the newest events before a position, in the event log's order."""
        return self._window.before(position, limit)

    def bounds(self) -> Bounds:
        """Return where the event log begins and ends now."""
        self._expire()
        return Bounds(self._window.floor, self._window.head)

    def count(self) -> int:
        """Return how many events the event log has now."""
        self._expire()
        return len(self._window)

    def position_of(self, id: str) -> EventId | None:
        """Return the position that an id names, or None if the event log does not have it."""
        return self._window.position_of(id)

    def close(self) -> None:
        """End `follow`."""
        self._closed = True
        self._appended.set()

    def _wait_for_follower(self) -> None:
        # The window exceeds its limits only while the follower has not read what is to be
        # dropped. Publishers that are faster than the follower wait, or memory would fill.
        while self._window.over_limit:
            self._trimmed.clear()
            if not self._trimmed.wait(_PUBLISH_TIMEOUT_S):
                raise too_fast()

    def _trim(self) -> None:
        # Keep what the follower has not read: it could not notice that events are missing.
        self._window.trim(self._followed_up_to)

    def _expire(self) -> None:
        self._window.drop_before(EventId(now() - self._max_age_ms, 0))
