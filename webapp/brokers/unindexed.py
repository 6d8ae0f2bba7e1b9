"""Stands in for the index by topic in brokers that have none yet: it walks through the log."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Protocol

from ..core.events import EventId
from ..core.window import Window
from .base import Bounds, TopicPage, first_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..core.events import Event
    from ..core.topic_index import TopicEntry

_PAGE_BYTES = 256 << 10
_PAGE_EVENTS = 500
_MAX_WALKED_EVENTS = 100_000


class Unindexed(Protocol):
    """The methods of `Broker` that need an index by topic."""

    def read_page(self, after: EventId, max_bytes: int) -> tuple[list[Event], Bounds]:
        """See `Broker`."""

    def before(self, position: EventId, limit: int, max_bytes: int) -> list[Event]:
        """See `Broker`."""

    def bounds(self) -> Bounds:
        """See `Broker`."""

    def position_of(self, id: str) -> EventId | None:
        """See `Broker`."""

    def read_topics(self, after: EventId, max_bytes: int, topics: Sequence[str]) -> TopicPage:
        """Return a page of the events after a position that have one of some topics."""
        events, bounds = self.read_page(after, max_bytes)
        upto = events[-1].position if events else max(after, bounds.head)
        return TopicPage([it for it in events if _has(it, topics)], upto, bounds)

    def before_topics(
        self,
        position: EventId,
        limit: int,
        max_bytes: int,  # noqa: ARG002 - at most `limit` events
        topics: Sequence[str],
    ) -> list[Event]:
        """Return the newest events before a position that have one of some topics."""
        found = (it for it in self._backwards(position) if _has(it, topics))
        return list(islice(found, limit))[::-1]

    def newest(
        self, topics: Sequence[str], before: EventId, *, public: bool
    ) -> list[EventId | None]:
        """Return the position of each topic's newest event before another one."""
        window = self._window()
        return [window.newest(topic, before, public=public) for topic in topics]

    def read_at(self, positions: Sequence[EventId], max_bytes: int) -> list[Event]:
        """Return the first of the events at some positions."""
        found = (it for at in sorted(set(positions)) for it in self.before(at.next(0), 1, 1))
        return first_bytes((it for it in found if it.position in positions), max_bytes)

    def topics(self, prefix: str, after: str, limit: int) -> list[TopicEntry]:
        """Return the directory of topics, in the order of their names."""
        return self._window().topics(prefix, after, limit)

    def positions_of(
        self, id: str, after: EventId | None, limit: int, topics: Sequence[str] | None = None
    ) -> list[EventId]:
        """Return the positions of the events with a custom id, the oldest first."""
        position = self.position_of(id)
        if not position or (after and position <= after) or not limit:
            return []
        if topics is not None and not all(_has(it, topics) for it in self.read_at([position], 1)):
            return []
        return [position]

    def _window(self) -> Window:
        events = list(self._backwards(self.bounds().head.next(0)))[::-1]
        window = Window(EventId(0, 0), len(events), 0)
        window.append(events)
        return window

    def _backwards(self, position: EventId) -> Iterator[Event]:
        walked = 0
        while walked < _MAX_WALKED_EVENTS:
            events = self.before(position, _PAGE_EVENTS, _PAGE_BYTES)
            if not events:
                return
            yield from reversed(events)
            walked += len(events)
            position = events[0].position


def _has(event: Event, topics: Sequence[str]) -> bool:
    return not {*topics}.isdisjoint(event.draft.topics)
