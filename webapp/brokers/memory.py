"""The event log of one process. It is lost when the process ends.

A new event log begins at a position of the current time. So a cursor from before a restart lies
below its floor, and its subscriber learns that events were lost.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from gevent.event import Event as Signal

from ..core.events import Event, EventId
from ..core.removals import HeldPosition, RemovalEntry, digest
from ..core.window import Window
from ..scheduling import cooperative
from .base import (
    Bounds,
    Removed,
    TopicEnd,
    TopicPage,
    Usage,
    conflict,
    first_bytes,
    now,
    too_fast,
    topic_ended,
)
from .hidden import followed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..core.events import Draft
    from ..core.globs import Glob
    from ..core.removals import Removal
    from ..core.topic_index import DirectoryPage
    from .base import Followed

_PUBLISH_TIMEOUT_S = 10  # how long a publisher waits for the follower
_PAGE_BYTES = 256 << 10  # what the follower gets at once
_PAGE_TOPICS = 250  # of the directory, returned at once: a millisecond


class MemoryBroker:
    """The newest events of this process, bounded in number, bytes and age.

    :param max_age: in seconds.
    """

    def __init__(self, max_events: int, max_bytes: int, max_age: float) -> None:
        self._window = Window(EventId(now(), 0), max_events, max_bytes, now)
        self._max_age_ms = round(max_age * 1000)
        self._followed_up_to = self._window.head
        self._appended, self._trimmed = Signal(), Signal()
        self._closed = False

    def append(self, drafts: Sequence[Draft]) -> list[Event]:
        """Append all drafts, or none; see `Broker.append`."""
        self._wait_for_follower()
        self._expire()
        events, new = list[Event](), list[Event]()
        by_own_id = dict[tuple[str, str], Event]()
        has_ends = self._window.has_ends
        ended: set[str] = set()  # by these drafts
        position, at = self._window.head, now()
        for draft in drafts:
            event = None
            if draft.id:
                custom = draft.topics[0], draft.id
                event = self._window.find(*custom) or by_own_id.get(custom)
            if event is None:
                if (ended or has_ends) and any(
                    topic in ended or self._window.end_of(topic) for topic in draft.topics
                ):
                    raise topic_ended()
                if draft.ended:
                    ended.update(draft.topics)
                position = position.next(at)
                event = Event(position, draft)
                new.append(event)
                if draft.id:
                    by_own_id[custom] = event
            elif not _is_same(event, draft):
                raise conflict()
            events.append(event)
        self._window.append(new)
        self._trim()
        self._appended.set()
        return events

    def remove(self, removal: Removal) -> Removed:
        """Remove events; see `Broker.remove`. It yields to the loop between its steps."""
        self._expire()
        if not self._window.before_with(removal.last.next(0), 1, [removal.topic]):
            return Removed(0, None)
        position = self._window.head.next(now())
        self._window.append_hidden(RemovalEntry(position, removal))
        count = sum(cooperative(self._window.remove(removal)))
        self._appended.set()
        return Removed(count, position)

    def follow(self, after: EventId) -> Iterator[Followed]:
        """Yield the events after a position, in order, until the broker is closed."""
        while not self._closed:
            if entries := self._window.entries_after(after, _PAGE_BYTES):
                yield from followed(entries)
                self._followed_up_to = after = entries[-1].position
                self._trim()
                self._trimmed.set()
            else:
                self._appended.clear()
                self._appended.wait()

    def read(self, after: EventId, max_bytes: int) -> list[Event]:
        """Return the next events after a position."""
        return self._window.after(after, max_bytes)

    def read_page(self, after: EventId, max_bytes: int) -> TopicPage:
        """Return a page of the events after a position, and how far it goes."""
        events, bounds = self.read(after, max_bytes), self.bounds()
        return TopicPage(events, events[-1].position if events else max(after, bounds.head), bounds)

    def before(self, position: EventId, limit: int, max_bytes: int) -> list[Event]:  # noqa: ARG002 - it is in memory
        """Return the newest events before a position, in the event log's order."""
        return self._window.before(position, limit)

    def read_topics(self, after: EventId, max_bytes: int, topics: Sequence[str]) -> TopicPage:
        """Return a page of the events after a position that have one of some topics."""
        self._update_index()
        return TopicPage(*self._window.after_with(after, max_bytes, topics), self.bounds())

    def before_topics(
        self,
        position: EventId,
        limit: int,
        max_bytes: int,  # noqa: ARG002 - it is in memory
        topics: Sequence[str],
    ) -> list[Event]:
        """Return the newest events before a position that have one of some topics."""
        self._update_index()
        return self._window.before_with(position, limit, topics)

    def newest(
        self, topics: Sequence[str], before: EventId, *, public: bool
    ) -> list[EventId | None]:
        """Return the position of each topic's newest event before another one."""
        self._update_index()
        return [self._window.newest(topic, before, public=public) for topic in topics]

    def read_at(self, positions: Sequence[EventId], max_bytes: int) -> list[Event]:
        """Return the first of the events at some positions."""
        found = map(self._window.entry_at, sorted(set(positions)))
        return first_bytes(filter(None, found), max_bytes)

    def ends(self, topics: Sequence[str]) -> list[TopicEnd | None]:
        """Return the end of each topic."""
        self._expire()
        found = map(self._window.end_of, topics)
        return [TopicEnd(it.position, it.draft.private) if it else None for it in found]

    def newest_end(self) -> EventId | None:
        """Return the position of the newest event that ended a topic."""
        self._expire()
        return self._window.newest_end

    def topics(
        self, prefix: str, after: str, limit: int, globs: Sequence[Glob] = ()
    ) -> DirectoryPage:
        """Return the next lines of the directory of topics."""
        self._expire()
        for _ in cooperative(chain(self._window.expire(), self._window.sort_names())):
            pass
        return self._window.topics(prefix, after, min(limit, _PAGE_TOPICS), globs)

    def positions_of(
        self, id: str, after: EventId | None, limit: int, topics: Sequence[str] | None = None
    ) -> list[EventId]:
        """Return the positions of the events with an own id, the oldest first."""
        found = self._window.with_id(id)
        if topics is not None:
            found = [event for event in found if not {*topics}.isdisjoint(event.draft.topics)]
        positions = (event.position for event in found)
        return [it for it in positions if after is None or it > after][:limit]

    def bounds(self) -> Bounds:
        """Return where the event log begins and ends now."""
        self._expire()
        return Bounds(self._window.floor, self._window.head)

    def count(self) -> int:
        """Return how many events the event log has now."""
        self._expire()
        return len(self._window)

    def usage(self) -> Usage:
        """Return where the event log begins and ends, and how much it keeps."""
        return Usage(self.bounds(), len(self._window), self._window.memory_bytes)

    def position_of(self, id: str) -> EventId | None:
        """Return the position that an id names, or None if the event log does not have it."""
        position = EventId.parse(id)
        if position:
            return position if self._window.holds(position) else None
        return next(iter(self.positions_of(id, None, 1)), None)

    def now(self) -> int:
        """Return the time of this machine."""
        return now()

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

    def _update_index(self) -> None:
        for _ in cooperative(self._window.update_index()):
            pass

    def _trim(self) -> None:
        # Keep what the follower has not read: it could not notice that events are missing.
        self._window.trim(self._followed_up_to)

    def _expire(self) -> None:
        self._window.drop_before(EventId(now() - self._max_age_ms, 0))
        if self._window.has_expiring:
            next(self._window.expire(), None)  # a step


def _is_same(event: Event, draft: Draft) -> bool:
    if isinstance(event, HeldPosition):
        return event.digest == digest(draft)
    return event.draft == draft
