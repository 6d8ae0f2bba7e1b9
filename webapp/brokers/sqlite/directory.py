"""The directory of topics in an SQLite file: what the event log has of each topic.

The index counts the events of a topic in all segments. Those that were trimmed since are counted in
the oldest segments, and subtracted; new events are counted row by row, and added.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ...core.topic_index import DirectoryPage, TopicEntry
from . import expirations, removals
from .rows import from_key, to_key
from .topic_index import ENTRIES, index_state, previous_rows

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from ...core.events import EventId
    from ...core.globs import Glob
    from .database import Database
    from .topic_index import IndexState

_LOOKED_AT = 20_000  # names, compared with a glob by one call: 3 ms, or 40 if they are long
_GLOB = """
(substr(name, 1, length(:head{0})) = :head{0} AND instr(name, :middle{0})
AND substr(name, -length(:tail{0}), length(:tail{0})) = :tail{0})
"""  # the operator GLOB may take ten times as long

_TRIMMED = """
FROM segments CROSS JOIN posts ON segment = number AND topic = topics.id AND position <= :floor
WHERE number <= (SELECT min(number) FROM segments WHERE upto > :floor)
"""
_NAMED = "name >= :first AND name < CAST(:end AS TEXT) AND name <> :skip"
_LAST = f"SELECT name FROM topics WHERE {_NAMED} ORDER BY name LIMIT 1 OFFSET :others"  # noqa: S608 - the text above
# In the order of code points, which is that of UTF-8.
_INDEXED = f"""
SELECT json_group_array(json_array(name, newest, events, public_newest, public_events)) FROM (
  SELECT name, newest, events - (SELECT count(*) {_TRIMMED}) AS events,
    public_newest, public_events - (SELECT count(*) {_TRIMMED} AND NOT private) AS public_events
  FROM topics WHERE {_NAMED} AND newest > :floor AND {{wanted}}
  ORDER BY name LIMIT :limit)
"""  # noqa: S608 - the text above
_NEW = f"""
SELECT json_group_array(json_array(name, newest, events, public_newest, public_events)) FROM (
  SELECT name, max(position) AS newest, count(DISTINCT position) AS events,
    max(iif(private, NULL, position)) AS public_newest,
    count(DISTINCT iif(private, NULL, position)) AS public_events
  FROM ({ENTRIES}) WHERE {_NAMED} AND {{wanted}}
  GROUP BY name ORDER BY name LIMIT :limit)
"""  # noqa: S608 - the text above
_NEWEST_NEW = f"""
SELECT json_group_array(json_array(name, newest)) FROM (
  SELECT name, max(position) AS newest FROM ({ENTRIES})
  WHERE name IN (SELECT value FROM json_each(:topics)) AND NOT (:public AND private)
  GROUP BY name)
"""  # noqa: S608 - the text above
# The directory knows the newest one of all. If that is not before the position, each segment is
# asked, the newest first.
_NEWEST_INDEXED = """
SELECT json_group_array(json_array(name, iif(newest <= :upto, newest, (
  SELECT position FROM segments CROSS JOIN posts
    ON segment = number AND topic = topic_id AND position <= :upto AND NOT (:public AND private)
  ORDER BY number DESC, position DESC LIMIT 1)))) FROM (
  SELECT topics.id AS topic_id, name, iif(:public, public_newest, newest) AS newest
  FROM json_each(:topics) AS wanted CROSS JOIN topics ON name = wanted.value)
WHERE newest > :floor
"""


class Directory:
    """Reads the directory of topics; any thread may call."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def page(self, prefix: str, after: str, limit: int, globs: Sequence[Glob]) -> DirectoryPage:
        """Return the next lines; see `Broker.topics`.

        :raises RemovalPendingError: events are being removed.
        """
        wanted, literals = _condition(globs)
        values = {
            **literals,
            "first": max(prefix, after),
            "end": prefix.encode() + b"\xff",  # no text in UTF-8 has this byte
            "skip": after,
            "limit": limit,
        }
        with self._database.snapshot() as db:
            removals.require_none(db)
            expirations.require_none(db)
            state = index_state(db)
            last, indexed, new = None, [], []
            if state.upto > state.floor:
                others = (_LOOKED_AT // len(globs) if globs else limit) - 1
                [last] = db.execute(_LAST, {**values, "others": others}).fetchone() or [None]
                if last is not None:
                    values["end"] = last.encode() + b"\0"  # no name has this byte
                query = _INDEXED.format(wanted=wanted)
                indexed = _select(db, query, {**values, "floor": state.floor})
            if state.head > state.upto:
                query = _NEW.format(wanted=wanted)
                new = _select(db, query, {**values, "after": state.upto, "upto": state.head})
        entries = [_to_entry(*fields) for fields in _merge(indexed, new)[:limit]]
        return DirectoryPage(entries, entries[-1].topic if len(entries) == limit else last)

    def newest(
        self, topics: Sequence[str], before: EventId, *, public: bool
    ) -> list[EventId | None]:
        """Return the position of each topic's newest event before another one.

        :param public: only of events that are not private.
        :raises RemovalPendingError: events are being removed.
        """
        with self._database.snapshot() as db:
            removals.require_none(db)
            expirations.require_none(db)
            state = index_state(db)
            end = min(to_key(before) - 1, state.head)
            newest = _newest_new(db, state, end, topics, public=public)
            older = [topic for topic in topics if topic not in newest]
            if older and state.floor < min(end, state.upto):
                values = {"topics": json.dumps(older), "public": public}
                limits = {"upto": min(end, state.upto), "floor": state.floor}
                newest |= dict(_select(db, _NEWEST_INDEXED, {**values, **limits}))
        return [_to_position(newest.get(topic), state.floor) for topic in topics]


def _condition(globs: Sequence[Glob]) -> tuple[str, dict[str, Any]]:
    """Return an SQL condition for a name, and its parameters."""
    condition = " OR ".join(_GLOB.format(number) for number in range(len(globs)))
    values = {
        f"{name}{number}": text
        for number, glob in enumerate(globs)
        for name, text in glob._asdict().items()
    }
    return f"({condition or 'true'})", values


def _newest_new(
    db: sqlite3.Connection, state: IndexState, end: int, topics: Sequence[str], *, public: bool
) -> dict[str, int]:
    """Return the newest key of each topic that has one among the rows after the index."""
    newest = dict[str, int]()
    wanted = set(topics)
    while wanted and end > state.upto:
        first = previous_rows(db, state.upto, end)
        if first is None:
            break
        values = {"topics": json.dumps(list(wanted)), "public": public}
        found = dict(_select(db, _NEWEST_NEW, {**values, "after": first - 1, "upto": end}))
        newest |= found
        wanted -= set(found)
        end = first - 1
    return newest


def _select(db: sqlite3.Connection, query: str, values: dict[str, Any]) -> list[Any]:
    [(rows,)] = db.execute(query, values)
    found: list[Any] = json.loads(rows)
    return found


def _merge(indexed: list[Any], new: list[Any]) -> list[Any]:
    """Return both lists as one in the order of names, with the counts of a name added up."""
    by_name = {fields[0]: fields for fields in indexed}
    for fields in new:
        name, newest, events, public_newest, public_events = fields
        known = by_name.get(name, [name, 0, 0, None, 0])
        public_newest = public_newest or known[3]
        counts = known[2] + events, known[4] + public_events
        by_name[name] = [name, newest, counts[0], public_newest, counts[1]]
    return [by_name[name] for name in sorted(by_name)]


def _to_entry(
    name: str, newest: int, events: int, public_newest: int | None, public_events: int
) -> TopicEntry:
    public = from_key(public_newest) if public_newest and public_events else None
    return TopicEntry(name, from_key(newest), events, public, public_events)


def _to_position(key: int | None, floor: int) -> EventId | None:
    return from_key(key) if key and key > floor else None
