"""The ended topics in an SQLite file, in a table beside the events.

Version 0.1.0 knows no such table: it makes files without it, and trims events without their ends.
So a commit adds the table where it is missing, and ends up to the floor do not count.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ..base import TopicEnd
from .rows import from_key

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from ...core.events import EventId
    from .database import Database
    from .rows import Row

TABLES = [
    """
CREATE TABLE IF NOT EXISTS topic_ends (topic TEXT NOT NULL, position INTEGER NOT NULL,
  private INTEGER NOT NULL, PRIMARY KEY (topic, position)) WITHOUT ROWID
""",
    "CREATE INDEX IF NOT EXISTS topic_ends_by_position ON topic_ends (position)",
]
NEWEST = "(SELECT max(position) FROM topic_ends)"
"""The key of the newest end; NULL if there is none."""
TRIM = "DELETE FROM topic_ends WHERE position <= ?"
FORGET = "DELETE FROM topic_ends WHERE position = ?"

_HAS_TABLE = "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'topic_ends')"
_KEPT = "position > (SELECT floor FROM log)"
_ENDED = f"""
SELECT topic FROM json_each(?) AS wanted CROSS JOIN topic_ends ON topic = wanted.value AND {_KEPT}
"""  # noqa: S608 - the text above
_FIND = f"""
SELECT json_group_array(json_array(topic, position, private)) FROM (
  SELECT topic, position, private FROM json_each(?) AS wanted
  CROSS JOIN topic_ends ON topic = wanted.value AND {_KEPT}
  ORDER BY position)
"""  # noqa: S608 - the text above


class EndedTopics:
    """Which topics have ended for the appends of one transaction.

    :param newest: the key of the newest end that the event log has; None: it has none.
    """

    def __init__(
        self, db: sqlite3.Connection, appends: Sequence[Sequence[Row]], newest: int | None
    ) -> None:
        # Each append makes these: to call `set[str]` costs twenty times as much.
        self._ended: set[str] = set()
        self._new: list[tuple[str, int, bool]] = []  # rows of the table
        if newest is not None:
            topics = {topic for rows in appends for row in rows for topic in row.draft.topics}
            found = db.execute(_ENDED, (json.dumps(list(topics)),))
            self._ended.update(topic for (topic,) in found)

    def refuse(self, rows: Sequence[tuple[int, Row]]) -> bool:
        """Whether one of an append's new rows names an ended topic. If not, what they end has
        ended for the next append.

        :param rows: with their keys.
        """
        new: dict[str, tuple[str, int, bool]] = {}
        for key, row in rows:
            draft = row.draft
            if self._ended and not self._ended.isdisjoint(draft.topics):
                return True
            if new and not new.keys().isdisjoint(draft.topics):
                return True
            if draft.ended:
                new |= {topic: (topic, key, draft.private) for topic in draft.topics}
        if new:
            self._ended.update(new)
            self._new += new.values()
        return False

    def store(self, db: sqlite3.Connection) -> None:
        """Store what the appends have ended."""
        if self._new:
            db.executemany("INSERT INTO topic_ends VALUES (?, ?, ?)", self._new)


def find(database: Database, topics: Sequence[str]) -> list[TopicEnd | None]:
    """Return the end of each topic; see `Broker.ends`."""
    found = dict[str, TopicEnd]()
    with database.snapshot() as db:
        if _has_table(db):
            [(rows,)] = db.execute(_FIND, (json.dumps(list(topics)),))
            found = {it[0]: TopicEnd(from_key(it[1]), bool(it[2])) for it in json.loads(rows)}
    return [found.get(topic) for topic in topics]


def newest(database: Database) -> EventId | None:
    """Return the position of the newest end; see `Broker.newest_end`."""
    with database.snapshot() as db:
        if not _has_table(db):
            return None
        [(key,)] = db.execute(f"SELECT max(position) FROM topic_ends WHERE {_KEPT}")  # noqa: S608 - the text above
    return None if key is None else from_key(key)


def _has_table(db: sqlite3.Connection) -> bool:
    return bool(db.execute(_HAS_TABLE).fetchone()[0])
