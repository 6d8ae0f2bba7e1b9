"""Finds the events of some topics in one read transaction: by the index up to where it goes, and
row by row after that.

A search is bounded: it may end early, and says how far it has come. In each statement the order of
the loops is forced (`CROSS JOIN`), because SQLite has no statistics of the tables.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from .rows import LAST_KEY
from .topic_index import ENTRIES, index_state, next_rows, previous_rows

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

_FIRST_LOOKUPS = 64  # of a topic in a segment, by the first statement; each further one does more
_MAX_LOOKUPS = 20_000  # of a search, about

_IDS = """
SELECT json_group_array(topics.id), count(*), max(newest) FROM json_each(:topics) AS wanted
CROSS JOIN topics ON name = wanted.value WHERE newest > :after
"""
# The first segment with entries after a key, and that of the newest entry of the topics.
_SEGMENTS_AFTER = """
SELECT min(number), ifnull(min(iif(upto >= :newest, number, NULL)), max(number))
FROM segments WHERE upto > :after
"""
_SEGMENTS_BEFORE = """
SELECT min(number), ifnull(min(iif(upto >= ?, number, NULL)), max(number)) FROM segments
"""
_UPTO = "SELECT upto FROM segments WHERE number = ?"
_LOOK_UP = """
SELECT json_group_array(position) FROM (
  SELECT DISTINCT position FROM json_each(:ids) AS wanted
  CROSS JOIN segments ON number BETWEEN :first AND :last
  CROSS JOIN posts ON segment = number AND topic = wanted.value
    AND position > :after AND position <= :upto
  ORDER BY position {order} LIMIT :rows)
"""
_WALK = f"""
SELECT json_group_array(position) FROM (
  SELECT DISTINCT position FROM ({ENTRIES})
  WHERE name IN (SELECT value FROM json_each(:topics))
  ORDER BY position {{order}} LIMIT :rows)
"""  # noqa: S608 - the text above


class Found(NamedTuple):
    """The keys of some events, in the order in which they were searched."""

    keys: list[int]
    end: int  # up to which these are all; backwards: after which


class TopicSearch:
    """The search for events that have one of some topics.

    :param db: in a read transaction.
    :param rows: how many events to find.
    """

    def __init__(self, db: sqlite3.Connection, topics: Sequence[str], rows: int) -> None:
        self._db, self._topics, self._rows = db, json.dumps(list(topics)), rows
        self.state = index_state(db)
        self._keys: list[int] = []

    def after(self, start: int) -> Found:
        """Find the next events after a key."""
        end = self._look_up_after(start) if start < self.state.upto else start
        if end >= self.state.upto and not self._is_full:
            last = next_rows(self._db, end, self.state.head)
            if last is not None:
                self._walk(end, last, "ASC")
            end = last or self.state.head
        return Found(self._keys, self._keys[-1] if self._is_full else end)

    def before(self, start: int) -> Found:
        """Find the newest events before a key."""
        end = min(start - 1, self.state.head)
        first = previous_rows(self._db, self.state.upto, end)
        if first is not None:
            self._walk(first - 1, end, "DESC")
            end = first - 1
            first = previous_rows(self._db, self.state.upto, end)
        if first is None and not self._is_full:
            end = self._look_up_before(min(end, self.state.upto))
        return Found(self._keys, self._keys[-1] - 1 if self._is_full else end)

    @property
    def _is_full(self) -> bool:
        return len(self._keys) >= self._rows

    def _look_up_after(self, start: int) -> int:
        ids, count, newest_key = self._ids(start)
        if not count:
            return self.state.upto
        values = {"after": start, "newest": newest_key}
        number, newest = self._db.execute(_SEGMENTS_AFTER, values).fetchone()
        lookups, width = 0, max(1, _FIRST_LOOKUPS // count)
        while number <= newest and lookups < _MAX_LOOKUPS and not self._is_full:
            last = min(number + width - 1, newest)
            values = {"first": number, "last": last, "after": start, "upto": LAST_KEY}
            self._add("look up", "ASC", ids=ids, **values)
            lookups += width * count
            number, width = last + 1, width * 2
        return self.state.upto if number > newest else self._upto(number - 1)

    def _look_up_before(self, end: int) -> int:
        floor = self.state.floor
        ids, count, _ = self._ids(floor) if end > floor else ("", 0, 0)
        if not count:
            return floor
        oldest, number = self._db.execute(_SEGMENTS_BEFORE, (end,)).fetchone()
        lookups, width = 0, max(1, _FIRST_LOOKUPS // count)
        while number >= oldest and lookups < _MAX_LOOKUPS and not self._is_full:
            first = max(number - width + 1, oldest)
            values = {"first": first, "last": number, "after": floor, "upto": end}
            self._add("look up", "DESC", ids=ids, **values)
            lookups += width * count
            number, width = first - 1, width * 2
        return floor if number < oldest else max(self._upto(number), floor)

    def _ids(self, after: int) -> tuple[str, int, int]:
        """Return the ids of the topics that have an entry after a key, how many they are, and the
        key of their newest entry.
        """
        values = {"topics": self._topics, "after": after}
        ids, count, newest = self._db.execute(_IDS, values).fetchone()
        return ids, count, newest

    def _upto(self, segment: int) -> int:
        [(upto,)] = self._db.execute(_UPTO, (segment,))
        return int(upto)

    def _walk(self, after: int, upto: int, order: str) -> None:
        self._add("walk", order, topics=self._topics, after=after, upto=upto)

    def _add(self, statement: str, order: str, **values: Any) -> None:
        values["rows"] = self._rows - len(self._keys)
        [(found,)] = self._db.execute(_STATEMENTS[statement, order], values)
        self._keys += json.loads(found)


_STATEMENTS = {
    (name, order): text.format(order=order)
    for name, text in (("look up", _LOOK_UP), ("walk", _WALK))
    for order in ("ASC", "DESC")
}
