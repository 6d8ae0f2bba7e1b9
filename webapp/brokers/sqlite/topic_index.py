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

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import sqlite3

    from .database import Database

FEW_ROWS = 256
"""So many new events do not need a step: each read walks through them."""
STEP_ROWS, STEP_BYTES = 5000, 2 << 20
"""What a step takes, and what a read walks through at once, or one event if that is more."""
_STEP_ENTRIES = 6000  # what a step writes at most
_SEGMENT_ENTRIES = 5000  # with so many, a segment gets no more
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
    """
CREATE TEMP TABLE IF NOT EXISTS new_entries (name TEXT, position INTEGER, private INTEGER,
  PRIMARY KEY (name, position)) WITHOUT ROWID
""",
]
_HAS_TABLES = "SELECT count(*) = 3 FROM sqlite_master WHERE name IN ('topics', 'segments', 'posts')"

ENTRIES = f"""
SELECT name.value AS name, position, private FROM (
  SELECT place AS position, draft, json_extract(draft, '$[4]') IS NOT 0 AS private FROM events
  WHERE place > :after AND place <= :upto AND typeof(draft) = 'text' AND json_valid(draft)
    AND json_type(draft, '$[0]') = 'array' AND json_array_length(draft) = 6
    AND json_array_length(draft, '$[0]') <= {_MAX_TOPICS}
  ORDER BY place) CROSS JOIN json_each(draft, '$[0]') AS name
WHERE name.type = 'text'
"""  # noqa: S608 - a number
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
_STATE = "SELECT floor, head, ifnull((SELECT max(upto) FROM segments), floor) FROM ends"
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
_SUBTRACT = """
UPDATE topics SET events = topics.events - gone.events,
  public_events = topics.public_events - gone.public_events
FROM (SELECT topic, count(*) AS events, count(*) - sum(private) AS public_events
  FROM posts WHERE segment = :segment GROUP BY topic) AS gone
WHERE topics.id = gone.topic
"""
_DROP = [
    "DELETE FROM topics WHERE events <= 0 AND id IN (SELECT topic FROM posts WHERE segment = ?)",
    "DELETE FROM posts WHERE segment = ?",
    "DELETE FROM segments WHERE number = ?",
]


class IndexState(NamedTuple):
    """The keys between which the event log and its index lie."""

    floor: int
    head: int
    upto: int  # the index has all events up to here; the floor if there is no index


class TopicIndex:
    """Keeps the index by topic of an event log; any thread may call."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def is_behind(self) -> bool:
        """Return whether there is something to do for a step."""
        with self._database.snapshot() as db:
            now = index_state(db)
            if _is_there(db) and _trimmed_segment(db) is not None:
                return True
            rows, _, _ = db.execute(_NEXT_ROWS, _range(now.upto, now.head, FEW_ROWS)).fetchone()
            return bool(rows == FEW_ROWS)

    def step(self) -> bool:
        """Drop the oldest segment, or add the next events. Returns whether there may be more."""
        with self._database.transaction() as db:
            for table in _TABLES:
                db.execute(table)
            segment = _trimmed_segment(db)
            if segment is None:
                return _extend(db)
            db.execute(_SUBTRACT, {"segment": segment})
            for statement in _DROP:
                db.execute(statement, (segment,))
        return True


def index_state(db: sqlite3.Connection) -> IndexState:
    """Return how far the event log and its index go."""
    if _is_there(db):
        [(floor, head, upto)] = db.execute(_STATE)
        return IndexState(floor, head, max(upto, floor))
    [(floor, head)] = db.execute("SELECT floor, head FROM ends")
    return IndexState(floor, head, floor)


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


def _is_there(db: sqlite3.Connection) -> bool:
    return bool(db.execute(_HAS_TABLES).fetchone()[0])


def _trimmed_segment(db: sqlite3.Connection) -> int | None:
    number: int | None = db.execute(_TRIMMED_SEGMENT).fetchone()[0]
    return number


def _extend(db: sqlite3.Connection) -> bool:
    now = index_state(db)
    last = next_rows(db, now.upto, now.head)
    if last is None:
        return False
    segment, entries = db.execute(_NEWEST_SEGMENT).fetchone() or (0, _SEGMENT_ENTRIES)
    upto, new = _take(db, now.upto, last)
    values = {
        "segment": segment + (entries >= _SEGMENT_ENTRIES),
        "upto": upto,
        "entries": new,
    }
    for statement in (_ADD_TOPICS, _ADD_POSTS, _ADD_SEGMENT):
        db.execute(statement, values)
    db.execute("DELETE FROM new_entries")
    return upto < now.head


def _take(db: sqlite3.Connection, after: int, last: int) -> tuple[int, int]:
    """Fill `new_entries`. Returns the key up to which all events are in it, and their entries."""
    db.execute("DELETE FROM new_entries")
    values = {"after": after, "upto": last, "entries": _STEP_ENTRIES}
    entries = db.execute(_TAKE, values).rowcount
    if entries < _STEP_ENTRIES:
        return last, entries
    # The last event's entries may be cut off. There are others: it has 1,000 topics at most.
    [(last,)] = db.execute("SELECT max(position) FROM new_entries")
    cut = db.execute("DELETE FROM new_entries WHERE position = ?", (last,)).rowcount
    return last - 1, entries - cut
