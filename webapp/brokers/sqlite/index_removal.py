"""Removes entries from the index by topic in an SQLite file, whose events were removed."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from .topic_index import is_there

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

_DELETE = """
DELETE FROM posts WHERE segment = ? AND topic = (SELECT id FROM topics WHERE name = ?)
  AND position = ?
"""
_SUBTRACT = """
UPDATE topics SET events = events - :events, public_events = public_events - :public
WHERE name = :topic
"""
_NEWEST = """
SELECT position FROM segments CROSS JOIN posts ON segment = number AND topic = topics.id {which}
ORDER BY number DESC, position DESC LIMIT 1
"""
_FIND_NEWEST = f"""
UPDATE topics SET newest = iif(newest > :last, newest, ifnull(({_NEWEST.format(which="")}), 0)),
  public_newest = iif(public_newest > :last, public_newest,
    ({_NEWEST.format(which="AND NOT private")}))
WHERE name = :topic AND (newest <= :last OR public_newest <= :last)
"""  # noqa: S608 - the text above
_FORGET = "DELETE FROM topics WHERE name = :topic AND events <= 0"


class Entry(NamedTuple):
    """An entry of the index: an event has a topic."""

    topic: str
    key: int  # of the event
    private: bool


def unindex(db: sqlite3.Connection, entries: Sequence[Entry]) -> None:
    """Remove entries from the index, as far as it has them."""
    if not entries or not is_there(db):
        return
    segments = db.execute("SELECT upto, number FROM segments ORDER BY number").fetchall()
    removed = defaultdict[str, list[Entry]](list)
    for entry in entries:
        at = bisect_left(segments, (entry.key,))
        if at < len(segments):
            values = segments[at][1], entry.topic, entry.key
            if db.execute(_DELETE, values).rowcount:
                removed[entry.topic].append(entry)
    for topic, some in removed.items():
        public = sum(not it.private for it in some)
        last = max(it.key for it in some)
        db.execute(_SUBTRACT, {"topic": topic, "events": len(some), "public": public})
        db.execute(_FIND_NEWEST, {"topic": topic, "last": last})
        db.execute(_FORGET, {"topic": topic})
