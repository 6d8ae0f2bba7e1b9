"""The index by topic in an SQLite file: at which positions each topic has events.

If each commit wrote the entries of its events, each entry would change a page of its own. So the
index is written later, in steps. A step takes the next events and adds their entries to the newest
segment, sorted by topic. The index has all events up to a position, `upto`. A read walks through
the few events after that.

The index depends on the events alone. To a file without an index, or one to which an older version
has appended events, the same steps add what is missing. Events are trimmed without the index: a
read leaves out what is not after the floor, and a step drops a segment when all its events are
trimmed.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from . import removals
from .rows import TOPIC

if TYPE_CHECKING:
    import sqlite3

    from .database import Database

FEW_ROWS = 256
"""So many new events do not need a step: each read walks through them."""
STEP_ROWS, STEP_BYTES = 4000, 2 << 20
"""What a step takes, and what a read walks through at once, or one event if that is more."""
_STEP_ENTRIES = 5000  # what a step writes at most
_SEGMENT_ENTRIES = 20_000  # with so many, a segment gets no more
_MAX_TOPICS = 1000  # of an event

_TABLES = [
    # The directory of topics: how many entries each has in all segments, and the newest position;
    # and the same of the events that are not private.
    """
CREATE TABLE IF NOT EXISTS topics (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,
  events INTEGER NOT NULL, newest INTEGER NOT NULL, public_events INTEGER NOT NULL,
  public_newest INTEGER)
""",
    # `upto`: the position of the last event that was taken for the segment.
    """
CREATE TABLE IF NOT EXISTS segments (number INTEGER PRIMARY KEY, upto INTEGER NOT NULL,
  entries INTEGER NOT NULL)
""",
    """
CREATE TABLE IF NOT EXISTS posts (segment INTEGER NOT NULL, topic INTEGER NOT NULL,
  position INTEGER NOT NULL, private INTEGER NOT NULL,
  PRIMARY KEY (segment, topic, position)) WITHOUT ROWID
""",
]
_NEW_ENTRIES = """
CREATE TEMP TABLE IF NOT EXISTS new_entries (name TEXT, position INTEGER, private INTEGER,
  PRIMARY KEY (name, position)) WITHOUT ROWID
"""
_HAS_TABLES = "SELECT count(*) = 3 FROM sqlite_master WHERE name IN ('topics', 'segments', 'posts')"

ENTRIES = f"""
SELECT {TOPIC} AS name, position, private FROM (
  SELECT place AS position, draft, json_extract(draft, '$[4]') IS NOT 0 AS private FROM events
  WHERE place > :after AND place <= :upto AND typeof(draft) = 'text' AND json_valid(draft)
    AND json_array_length(draft) = 6 AND CASE json_type(draft, '$[0]')
      WHEN 'array' THEN json_array_length(draft, '$[0]')
      WHEN 'object' THEN (SELECT count(*) FROM json_each(draft, '$[0]')) END <= {_MAX_TOPICS}
  ORDER BY place) CROSS JOIN json_each(draft, '$[0]') AS name
WHERE typeof({TOPIC}) = 'text'
"""  # noqa: S608 - the text above
"""The topics of the events after a position and up to another; damaged events have none. An event
that names a topic twice has it twice.
"""
_NEXT_ROWS = """
SELECT count(*), max(position), sum(size) FROM (
  SELECT place AS position, min(max(size + 0, 0), 1 << 30) AS size FROM events
  WHERE place > :after AND place <= :upto ORDER BY place LIMIT :rows)
"""
_PREVIOUS_ROWS = """
SELECT count(*), min(position), sum(size) FROM (
  SELECT place AS position, min(max(size + 0, 0), 1 << 30) AS size FROM events
  WHERE place > :after AND place <= :upto ORDER BY place DESC LIMIT :rows)
"""
_NEWEST_SEGMENT = "SELECT number, entries FROM segments ORDER BY number DESC LIMIT 1"
_TRIMMED_SEGMENT = "SELECT min(number) FROM segments WHERE upto <= (SELECT floor FROM log)"

_TAKE = f"INSERT OR REPLACE INTO new_entries {ENTRIES} LIMIT :entries"
_ADD_TOPICS = """
INSERT INTO topics (name, events, newest, public_events, public_newest)
SELECT name, count(*), max(position), count(*) - sum(private), max(iif(private, NULL, position))
FROM new_entries WHERE true GROUP BY name
ON CONFLICT (name) DO UPDATE SET events = events + excluded.events, newest = excluded.newest,
  public_events = public_events + excluded.public_events,
  public_newest = ifnull(excluded.public_newest, public_newest)
"""
_ADD_POSTS = """
INSERT INTO posts SELECT :segment, id, position, private
FROM new_entries CROSS JOIN topics USING (name) ORDER BY id, position
"""
_ADD_SEGMENT = """
INSERT INTO segments VALUES (:segment, :upto, :entries)
ON CONFLICT (number) DO UPDATE SET upto = excluded.upto, entries = entries + excluded.entries
"""
_DROP = [
    """
UPDATE topics SET events = topics.events - trimmed.events,
  public_events = topics.public_events - trimmed.public_events
FROM (SELECT topic, count(*) AS events, count(*) - sum(private) AS public_events
  FROM posts WHERE segment = :segment GROUP BY topic) AS trimmed
WHERE topics.id = trimmed.topic
""",
    """
DELETE FROM topics
WHERE events <= 0 AND id IN (SELECT topic FROM posts WHERE segment = :segment)
""",
    "DELETE FROM posts WHERE segment = :segment",
    "DELETE FROM segments WHERE number = :segment",
]


class IndexState(NamedTuple):
    """The keys between which the event log and its index lie."""

    floor: int
    head: int
    upto: int  # the index has all events up to here; the floor if there is no index


class NewEntries(NamedTuple):
    """What a step adds: the entries are in a temporary table."""

    after: int | None  # where the index ended
    upto: int
    entries: int
    is_last: bool  # there are no more events now


class TopicIndex:
    """Keeps the index by topic of an event log; any thread may call."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def is_behind(self) -> bool:
        """Return whether there is something to do for a step."""
        with self._database.snapshot() as db:
            now = index_state(db)
            if _trimmed_segment(db) is not None:
                return True
            rows, _, _ = db.execute(_NEXT_ROWS, _range(now.upto, now.head, FEW_ROWS)).fetchone()
            return bool(rows == FEW_ROWS)

    def prepare_step(self, previous: int | None = None) -> IndexStep | None:
        """Prepare a step, which adds the next events or drops the oldest segment. Its caller
        commits it; another thread may do so.

        :param previous: what the step before returned. If another process has added events since,
            nothing is done: one process at a time runs many steps.
        :returns: None: no step is needed.
        """
        with ExitStack() as lease:
            db = lease.enter_context(self._database.background_connection())
            upto = _stored_upto(db)
            if previous not in {None, upto}:
                return None
            segment = _trimmed_segment(db)
            new = _take(db, upto) if segment is None else None
            if segment is None and new is None:
                return None
            return IndexStep(db, lease.pop_all(), upto, segment, new)

    def step(self, previous: int | None = None) -> int | None:
        """Prepare a step and commit it."""
        step = self.prepare_step(previous)
        return step.commit() if step else None

    def checkpoint(self) -> None:
        """Write what the steps have done into the file. This may wait for the disk."""
        with self._database.connection() as db:
            db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


class IndexStep:
    """A step that is prepared on a connection, which is released with the commit."""

    def __init__(
        self,
        db: sqlite3.Connection,
        lease: ExitStack,
        upto: int | None,
        segment: int | None,
        new: NewEntries | None,
    ) -> None:
        self._db, self._lease = db, lease
        self._upto = upto
        self._segment, self._new = segment, new  # what it drops, or what it adds

    def commit(self) -> int | None:
        """Write it into the file. Publishers wait for this, and not while it was prepared.

        :returns: the key up to which the index goes; None: no further step is needed.
        :raises ServiceUnavailable: the file is locked; this hardly waits.
        """
        with self._lease:
            if self._segment is not None:
                _drop(self._db, self._segment)
                return self._upto
            new = self._new
            return new.upto if new and _add(self._db, new) and not new.is_last else None


def index_state(db: sqlite3.Connection) -> IndexState:
    """Return how far the event log and its index go."""
    [(floor, head)] = db.execute("SELECT floor, head FROM ends")
    return IndexState(floor, head, max(_stored_upto(db) or floor, floor))


def next_rows(db: sqlite3.Connection, after: int, upto: int) -> int | None:
    """Return the last key of the next events, or None if there are none."""
    return _bounded(db, _NEXT_ROWS, _range(after, upto, STEP_ROWS))


def previous_rows(db: sqlite3.Connection, after: int, upto: int) -> int | None:
    """Return the first key of the newest events up to a key, or None if there are none."""
    return _bounded(db, _PREVIOUS_ROWS, _range(after, upto, STEP_ROWS))


def _range(after: int, upto: int, rows: int) -> dict[str, int]:
    return {"after": after, "upto": upto, "rows": rows}


def _bounded(db: sqlite3.Connection, query: str, values: dict[str, int]) -> int | None:
    while True:
        rows, end, size = db.execute(query, values).fetchone()
        if rows <= 1 or size <= STEP_BYTES:
            return None if end is None else int(end)
        values["rows"] = rows // 2


def is_there(db: sqlite3.Connection) -> bool:
    """Return whether the file has the tables of the index."""
    return bool(db.execute(_HAS_TABLES).fetchone()[0])


def _stored_upto(db: sqlite3.Connection) -> int | None:
    if not is_there(db):
        return None
    upto: int | None = db.execute("SELECT max(upto) FROM segments").fetchone()[0]
    return upto


def _trimmed_segment(db: sqlite3.Connection) -> int | None:
    if not is_there(db):
        return None
    number: int | None = db.execute(_TRIMMED_SEGMENT).fetchone()[0]
    return number


def _take(db: sqlite3.Connection, after: int | None) -> NewEntries | None:
    """Fill the temporary table with the entries of the next events."""
    db.execute(_NEW_ENTRIES)
    db.execute("DELETE FROM new_entries")
    now = index_state(db)
    last = next_rows(db, now.upto, now.head)
    if last is None:
        return None
    values = {"after": now.upto, "upto": last, "entries": _STEP_ENTRIES}
    entries = db.execute(_TAKE, values).rowcount
    if entries < _STEP_ENTRIES:
        return NewEntries(after, last, entries, is_last=last == now.head)
    # The last event's entries may be cut off. There are others: it has 1,000 topics at most.
    [(last,)] = db.execute("SELECT max(position) FROM new_entries")
    cut = db.execute("DELETE FROM new_entries WHERE position = ?", (last,)).rowcount
    return NewEntries(after, last - 1, entries - cut, is_last=False)


def _add(db: sqlite3.Connection, new: NewEntries) -> bool:
    """Add a segment's entries. Returns False if another process did so since they were taken."""
    with db:
        db.execute("BEGIN IMMEDIATE")
        for table in (*_TABLES, *removals.TABLES):
            db.execute(table)
        if _stored_upto(db) != new.after:
            return False
        number, entries = db.execute(_NEWEST_SEGMENT).fetchone() or (0, _SEGMENT_ENTRIES)
        segment = number + (entries >= _SEGMENT_ENTRIES)
        values = {"segment": segment, "upto": new.upto, "entries": new.entries}
        for statement in (_ADD_TOPICS, _ADD_POSTS, _ADD_SEGMENT):
            db.execute(statement, values)
    return True


def _drop(db: sqlite3.Connection, segment: int) -> None:
    with db:
        db.execute("BEGIN IMMEDIATE")
        for statement in _DROP:
            db.execute(statement, {"segment": segment})
