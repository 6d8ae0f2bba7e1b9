"""Reads pages of events from an SQLite file: as many rows as it takes to find some events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..base import TopicPage
from .follower import frame_bytes
from .topic_reader import TopicReader

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ...core.events import Event, EventId
    from .log_table import LogTable

_MAX_PAGES = 100  # of 500 rows, which one call reads


class PageReader:
    """See the methods of `Broker`.

    :param read: calls a function in a thread that reads.
    """

    def __init__(self, table: LogTable, read: Callable[..., Any]) -> None:
        self._table, self._read = table, read
        self._topics = TopicReader(table.database)

    def after(self, position: EventId, max_bytes: int) -> TopicPage:
        """Return the next events after a position."""
        found: list[Event] = []
        for _ in range(_MAX_PAGES):
            page, bounds, _, _ = self._read(self._table.after, position, max_bytes)
            # Events that were trimmed between two steps would be missing in between.
            if not page.end or (found and bounds.floor > position):
                break
            events = page.events
            found += events
            max_bytes -= frame_bytes(events)
            position = page.end
            if max_bytes <= 0:
                break
        return TopicPage(found, position, self._read(self._table.bounds))

    def before(self, position: EventId, limit: int, max_bytes: int) -> list[Event]:
        """Return the newest events before a position, in the event log's order."""
        found: list[Event] = []
        while len(found) < limit and max_bytes > 0:
            page = self._read(self._table.before, position, limit - len(found), max_bytes)
            if not page.end:
                break
            events = page.events
            found[:0] = events
            max_bytes -= frame_bytes(events)
            position = page.end
        return found

    def after_with(self, position: EventId, max_bytes: int, topics: Sequence[str]) -> TopicPage:
        """Return the next events after a position that have one of some topics."""
        page, upto, bounds = self._read(self._topics.after, position, max_bytes, topics)
        return TopicPage(page.events, upto, bounds)

    def before_with(
        self, position: EventId, limit: int, max_bytes: int, topics: Sequence[str]
    ) -> list[Event]:
        """Return the newest events before a position that have one of some topics."""
        found: list[Event] = []
        start: EventId | None = position
        while start and len(found) < limit and max_bytes > 0:
            missing = limit - len(found)
            page, start = self._read(self._topics.before, start, missing, max_bytes, topics)
            events = page.events
            found[:0] = events
            max_bytes -= frame_bytes(events)
        return found

    def at(self, positions: Sequence[EventId], max_bytes: int) -> list[Event]:
        """Return the first of the events at some positions, and what is left of removed ones."""
        found: list[Event] = []
        wanted = sorted(set(positions))
        while wanted and not found:  # a page may have damaged events only
            page = self._read(self._topics.at, wanted, max_bytes)
            found = page.entries
            wanted = [it for it in wanted if page.end and it > page.end]
        return found
