"""Reads the events of some topics, a page at a time: every call blocks, and is one transaction."""

from __future__ import annotations

import json
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from ..base import Bounds
from . import removals
from .rows import Page, from_key, to_key, to_page
from .topic_search import TopicSearch

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from ...core.events import EventId
    from .database import Database

_PAGE_ROWS = 500
# Events of a topic lie far apart, and each is read twice: its size, and then its text if the page
# has room. With more at once, SQLite's cache would not have the text any more.
_FETCH_ROWS = 64
_FETCH = """
SELECT {last}(position), group_concat(position || ' ' || line, char(10)), sum(size) FROM (
  SELECT place AS position, iif(instr(draft, char(10)), '', draft) AS line,
    min(max(size + 0, 0), 1 << 30) AS size
  FROM events WHERE place IN (
    SELECT position FROM (
      SELECT position, sum(size) OVER (ORDER BY position {order}) - size AS before FROM (
        SELECT place AS position, min(max(size + 0, 0), 1 << 30) AS size
        FROM json_each(:keys) AS wanted CROSS JOIN events ON place = wanted.value))
    WHERE before < :bytes)
  ORDER BY place)
"""
_FIRST = _FETCH.format(last="max", order="ASC")
_LAST = _FETCH.format(last="min", order="DESC")


class NextOfTopics(NamedTuple):
    """The next events after a position that have one of some topics."""

    page: Page
    upto: EventId  # the page has all of them up to here; the head if nothing is left
    bounds: Bounds


class PreviousOfTopics(NamedTuple):
    """The newest events before a position that have one of some topics."""

    page: Page
    start: EventId | None  # the page has all of them from here on; None: nothing is left


class TopicReader:
    """Reads an event log by its index; any thread may call."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def after(self, position: EventId, max_bytes: int, topics: Sequence[str]) -> NextOfTopics:
        """Return the next events: about `max_bytes` or 500 of them, at least one."""
        with self._database.snapshot() as db:
            search = TopicSearch(db, topics, _PAGE_ROWS)
            bounds = Bounds(from_key(search.state.floor), from_key(search.state.head))
            if position >= bounds.head:
                return NextOfTopics(Page([], None), position, bounds)
            keys, upto = search.after(max(to_key(position), search.state.floor))
            page = _fetch(db, _FIRST, keys, max_bytes)
        is_cut = page.end and page.end < from_key(keys[-1])
        return NextOfTopics(page, page.end if page.end and is_cut else from_key(upto), bounds)

    def before(
        self, position: EventId, limit: int, max_bytes: int, topics: Sequence[str]
    ) -> PreviousOfTopics:
        """Return the newest events, in the event log's order, bounded likewise."""
        with self._database.snapshot() as db:
            search = TopicSearch(db, topics, min(limit, _PAGE_ROWS))
            keys, end = search.before(to_key(position))
            page = _fetch(db, _LAST, keys, max_bytes)
        if page.end and page.end > from_key(keys[-1]):
            return PreviousOfTopics(page, page.end)
        return PreviousOfTopics(page, from_key(end + 1) if end > search.state.floor else None)

    def at(self, positions: Sequence[EventId], max_bytes: int) -> Page:
        """Return the events at some positions, in the event log's order: about `max_bytes`."""
        with self._database.snapshot() as db:
            return _fetch(db, _FIRST, list(map(to_key, positions)), max_bytes)


def _fetch(db: sqlite3.Connection, query: str, keys: list[int], max_bytes: int) -> Page:
    """Return the first rows with some keys, about `max_bytes`, in the event log's order."""
    texts, end = deque[str](), None
    add = texts.append if query is _FIRST else texts.appendleft
    for start in range(0, len(keys), _FETCH_ROWS):
        values = {"keys": json.dumps(keys[start : start + _FETCH_ROWS]), "bytes": max_bytes}
        [(last, text, size)] = db.execute(query, values)
        if last is None:
            continue  # these were trimmed
        add(text)
        end, max_bytes = last, max_bytes - size
        if max_bytes <= 0:
            break
    return to_page(end, "\n".join(texts), removals.pending(db))
