"""Reads the index by topic. While something in it has expired or is being removed, a read waits and
helps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...core.topic_index import DirectoryPage, TopicEntry
from ..base import TopicEnd, TopicPage
from .rows import from_key, parse_page, to_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...core.events import EventId
    from ...core.globs import Glob
    from .functions import Functions
    from .rows import Row

_LOOKED_AT = 5000  # names, compared with a glob by one call


class PostgresTopicIndex:
    """What `Broker` says of the methods of the same names."""

    def __init__(self, functions: Functions) -> None:
        self._functions = functions

    def read_topics(self, after: EventId, max_bytes: int, topics: Sequence[str]) -> TopicPage:
        """Return the next events after a position that have one of some topics."""
        page = parse_page(self._rows("read_topics", to_key(after), max_bytes, list(topics)))
        return TopicPage(page.events, page.upto, page.bounds)

    def rows_before(self, topics: Sequence[str], key: int, limit: int, max_bytes: int) -> list[Row]:
        """Return the rows of the newest events before a key that have one of some topics."""
        _, *rows = self._rows("before_topics", key, limit, max_bytes, list(topics))
        return rows

    def newest(
        self, topics: Sequence[str], before: EventId, *, public: bool
    ) -> list[EventId | None]:
        """Return the position of each topic's newest event before another one."""
        [(keys,)] = self._rows("newest", list(topics), to_key(before), public)
        return [None if key is None else from_key(key) for key in keys]

    def ends(self, topics: Sequence[str]) -> list[TopicEnd | None]:
        """Return the end of each topic."""
        rows = self._rows("ends", list(topics)) if topics else []
        return [TopicEnd(from_key(key), private) if key else None for key, private in rows]

    def newest_end(self) -> EventId | None:
        """Return the position of the newest event that ended a topic."""
        [(key,)] = self._rows("newest_end")
        return from_key(key) if key else None

    def topics(
        self, prefix: str, after: str, limit: int, globs: Sequence[Glob] = ()
    ) -> DirectoryPage:
        """Return the next lines of the directory of topics."""
        patterns = [_to_like(it) for it in globs] or None
        looked_at = _LOOKED_AT // len(globs) if globs else limit
        (upto, *_), *lines = self._rows("topics", prefix, after, limit, looked_at, patterns)
        return DirectoryPage([_to_entry(*it) for it in lines], upto)

    def _rows(self, name: str, *values: object) -> list[Any]:
        return self._functions.index_rows(name, *values)


def _to_like(glob: Glob) -> str:
    return "%".join(it.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") for it in glob)


def _to_entry(
    name: str, newest: int, events: int, public_newest: int | None, public_events: int
) -> TopicEntry:
    public = from_key(public_newest) if public_newest else None
    return TopicEntry(name, from_key(newest), events, public, public_events)
