"""The event log in an SQLite file: every call blocks, and is one transaction.

Each row has the number of rows and of bytes up to it, counted since the file was created. So a
commit only inserts, and what lies between two rows is the difference of their counts.

A thread that steps through rows releases the interpreter lock at each one, and may wait
milliseconds for it while the event loop is busy. So a page is read as one row of text, and one
statement inserts many rows.
"""

from __future__ import annotations

import sqlite3
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from ...core.events import EventId
from ..base import Bounds, Usage, conflict, now, topic_ended
from . import expirations, removals, topic_ends
from .database import Database
from .own_ids import TRIGGER, OwnIds, next_key
from .rows import ROW_BYTES, Page, Row, from_key, to_key, to_page
from .topic_ends import EndedTopics

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ...errors import Conflict

_PAGE_ROWS = 500
_TRIM_ROWS = 2000  # deleted in one step: more than a commit adds
_INSERT_ROWS = 64  # in one statement
_FILL_AFTER_TRIM = 0.99  # of the bytes: so that not every commit needs a trim

_TABLES = [
    """
CREATE TABLE events (place INTEGER PRIMARY KEY, nth INTEGER NOT NULL, total INTEGER NOT NULL,
  size INTEGER NOT NULL, own TEXT, draft TEXT NOT NULL)
""",
    "CREATE UNIQUE INDEX own ON events (own) WHERE own IS NOT NULL",
    # The newest row that was trimmed. `nth` is its row number, `total` counts bytes.
    """
CREATE TABLE log (floor INTEGER NOT NULL, own TEXT, nth INTEGER NOT NULL, total INTEGER NOT NULL)
""",
    """
CREATE VIEW ends AS SELECT floor, ifnull((SELECT max(place) FROM events), floor) AS head FROM log
""",
]
# A page: each row is one line. The running total comes from the sizes alone, because texts behind
# the page must not be read. The text of a damaged row with more lines is left out.
_ROWS = """
  SELECT {last}(position) AS last, group_concat(position || ' ' || line, char(10)) AS page FROM (
    SELECT place AS position, iif(instr(draft, char(10)), '', draft) AS line FROM events
    WHERE place {after} :start AND place {upto} (
      SELECT {last}(position) FROM (
        SELECT position, sum(size) OVER (ORDER BY position {order}) - size AS before FROM (
          SELECT place AS position, min(max(size + 0, 0), 1 << 30) AS size FROM events
          WHERE place {after} :start ORDER BY place {order} LIMIT :rows))
      WHERE before < :bytes)
    ORDER BY place)
"""
_BACKWARDS = _ROWS.format(last="min", after="<", upto=">=", order="DESC")
_FORWARDS = _ROWS.format(last="max", after=">", upto="<=", order="ASC")
_PAGE = f"""
SELECT floor, head, EXISTS (SELECT 1 FROM events WHERE place = :start), last, page,
  min(max((SELECT total FROM events WHERE place = head)
    - (SELECT total FROM events WHERE place = last), 0), 1 << 40)
FROM ends, ({_FORWARDS})
"""  # noqa: S608 - the text above
# The newest event stays, however large it is, until it is too old.
_TRIMMED = """
SELECT max(position), count(*) FROM (
  SELECT place AS position, nth, total - size AS before FROM events ORDER BY place LIMIT :rows)
WHERE position < :too_old OR (position < :head AND (nth <= :nth OR before < :total))
"""
# The own id of a private event is not kept, because its topics are lost: the hub could not check
# any more who may know the id.
_TRIM_LOG = """
UPDATE log SET (floor, own, nth, total) = (SELECT place,
  CASE WHEN json_valid(draft) THEN iif(json_extract(draft, '$[#-2]'), NULL, own) END, nth,
  total
  FROM events WHERE place = ?)
"""
# The floor and the head, with `nth` and `total` of each, and the newest end of a topic. A row with
# text there, or with a number that cannot be right, is damaged.
_ENDS = f"""
SELECT floor, first, start, ifnull(place, floor),
  iif(typeof(nth) = 'integer' AND nth - first BETWEEN 0 AND 1 << 52, nth, first),
  iif(typeof(total) = 'integer' AND total - start BETWEEN 0 AND 1 << 52, total, start),
  {topic_ends.NEWEST}
FROM (
  SELECT floor, iif(typeof(nth) = 'integer' AND nth BETWEEN 0 AND 1 << 52, nth, 0) AS first,
    iif(typeof(total) = 'integer' AND total BETWEEN 0 AND 1 << 52, total, 0) AS start FROM log)
LEFT JOIN events ON place = (SELECT max(place) FROM events)
"""  # noqa: S608 - the text above
_COUNT = "SELECT ifnull((SELECT nth + 0 FROM events WHERE place = head), nth) - nth FROM log, ends"
_HAS = "SELECT EXISTS (SELECT 1 FROM events WHERE place = :key) OR :key = (SELECT floor FROM log)"

_NewRow = tuple[int, int, int, int, str | None, str]  # with the table's columns


class Appended(NamedTuple):
    """The result of one transaction."""

    after: EventId  # the head before it
    keys: list[list[int] | Conflict]  # of each append's rows, or why it is refused
    over_limit: bool  # the event log should be trimmed


class NextPage(NamedTuple):
    """The page after a position, and the state of the event log at that moment."""

    page: Page
    bounds: Bounds
    known: bool  # the event log has the position
    unread: int  # bytes of the rows after the page


class LogEnd(NamedTuple):
    """The floor or the head: its key, and how many rows and bytes there ever were up to it."""

    key: int
    row_number: int
    running_bytes: int


class LogTable:
    """The table in a file, which is created when it is missing; any thread may call.

    :param max_age: in seconds.
    """

    def __init__(self, path: Path, max_events: int, max_bytes: int, max_age: float) -> None:
        self.database = Database(path, _create, "event log")
        self._max_events, self._max_bytes = max_events, max_bytes
        self._max_age_ms = round(max_age * 1000)

    def append(self, appends: Sequence[Sequence[Row]]) -> Appended:
        """Insert the rows of every append, all or none of each."""
        self.database.prepare_try_write()
        with self.database.transaction() as db:
            return self._append(db, appends)

    def try_append(self, rows: Sequence[Row]) -> Appended | None:
        """Insert some rows without waiting. Returns None if the file is locked."""
        return self.database.try_write(lambda db: self._append(db, [rows]))

    def _append(self, db: sqlite3.Connection, appends: Sequence[Sequence[Row]]) -> Appended:
        floor, head, newest_end = _ends(db)
        own_ids, ended = OwnIds(db, appends), EndedTopics(db, appends, newest_end)
        accepted: list[list[int] | Conflict] = []
        new: list[_NewRow] = []
        expiring: list[tuple[int, Row]] = []  # that expire
        last, number, total = head
        for rows in appends:
            keys = own_ids.assign_keys(rows, last)
            new_rows = _new_rows(rows, keys, last) if keys else []
            if keys is None or ended.refuse(new_rows):
                accepted.append(conflict() if keys is None else topic_ended())
                continue
            own_ids.keep()
            accepted.append(keys)
            for key, row in new_rows:
                draft, size, text = row.draft, row.size, row.text
                last, number, total = key, number + 1, total + size
                own = draft.id and own_ids.column(draft.id, draft.topics[0])
                new.append((key, number, total, size, own, text))
                if draft.ttl:
                    expiring.append((key, row))
        _insert(db, new)
        ended.store(db)
        expirations.store(db, expiring)
        over_limit = self._over_limit(number - floor.row_number, total - floor.running_bytes)
        return Appended(from_key(head.key), accepted, over_limit)

    def append_entry(self, db: sqlite3.Connection, text: str) -> int:
        """Insert a row that is no event; return its key."""
        _, head, _ = _ends(db)
        key, size = next_key(head.key), len(text.encode()) + ROW_BYTES
        _insert(db, [(key, head.row_number + 1, head.running_bytes + size, size, None, text)])
        return key

    def trim(self) -> bool:
        """Delete some rows that exceed the limits. Returns whether there may be more."""
        with self.database.transaction() as db:
            _, head, _ = _ends(db)
            limits = {
                "rows": _TRIM_ROWS,
                "head": head.key,
                "too_old": to_key(EventId(now() - self._max_age_ms, 0)),
                "nth": head.row_number - self._max_events,
                "total": head.running_bytes - round(self._max_bytes * _FILL_AFTER_TRIM),
            }
            [(last, deleted)] = db.execute(_TRIMMED, limits)
            if deleted:
                db.execute(_TRIM_LOG, (last,))
                db.execute("DELETE FROM events WHERE place <= ?", (last,))
                db.execute(topic_ends.TRIM, (last,))
                expirations.trim(db, last)
        return bool(deleted == _TRIM_ROWS)

    def after(self, position: EventId, max_bytes: int) -> NextPage:
        """Return the next rows after a position: about `max_bytes` or 500 rows, at least one."""
        values = {"start": to_key(position), "rows": _PAGE_ROWS, "bytes": max_bytes}
        with self.database.connection() as db:
            pending = removals.pending(db)
            [(floor, head, known, end, text, unread)] = db.execute(_PAGE, values)
        bounds = Bounds(from_key(floor), from_key(head))
        known = known or floor == values["start"]
        return NextPage(to_page(end, text, pending), bounds, known, int(unread or 0))

    def before(self, position: EventId, limit: int, max_bytes: int) -> Page:
        """Return the newest rows before a position, in the event log's order, bounded likewise."""
        values = {"start": to_key(position), "rows": min(limit, _PAGE_ROWS), "bytes": max_bytes}
        with self.database.connection() as db:
            pending = removals.pending(db)
            [(end, text)] = db.execute(_BACKWARDS, values)
        return to_page(end, text, pending)

    def bounds(self) -> Bounds:
        """Return where the event log begins and ends."""
        return Bounds(*map(from_key, self._read_row("SELECT floor, head FROM ends")))

    def count(self) -> int:
        """Return how many rows there are."""
        return int(self._read_row(_COUNT)[0])

    def usage(self) -> Usage:
        """Return where the event log begins and ends, and how much it keeps."""
        with self.database.connection() as db:
            floor, head, _ = _ends(db)
        bounds = Bounds(from_key(floor.key), from_key(head.key))
        events, size = head.row_number - floor.row_number, head.running_bytes - floor.running_bytes
        return Usage(bounds, events, size)

    def has(self, position: EventId) -> bool:
        """Return whether a position is the floor, or that of a row."""
        key = to_key(position)
        return from_key(key) == position and bool(self._read_row(_HAS, {"key": key})[0])

    def close(self) -> None:
        """Close the file when the calls that run have ended."""
        self.database.close()

    def _read_row(self, query: str, values: Mapping[str, Any] | None = None) -> Any:
        with self.database.connection() as db:
            [row] = db.execute(query, values or {})
        return row

    def _over_limit(self, count: int, size: int) -> bool:
        slack = min(_TRIM_ROWS, self._max_events // 10)
        return count > self._max_events + slack or size > self._max_bytes


def _ends(db: sqlite3.Connection) -> tuple[LogEnd, LogEnd, int | None]:
    """Return the floor, the head, and the key of the newest end of a topic."""
    try:
        [ends] = db.execute(_ENDS)
    except sqlite3.OperationalError as error:
        if "topic_ends" not in str(error):
            raise
        _create_tables(db, [*topic_ends.TABLES, TRIGGER])  # version 0.1.0 made the file
        [ends] = db.execute(_ENDS)
    return LogEnd(*ends[:3]), LogEnd(*ends[3:6]), ends[6]


def _new_rows(rows: Sequence[Row], keys: Sequence[int], last: int) -> list[tuple[int, Row]]:
    """Return the rows that are new, with their keys: those of others are not after `last`, or not
    after the key before.
    """
    new: list[tuple[int, Row]] = []
    for row, key in zip(rows, keys, strict=True):
        if key > last:
            last = key
            new.append((key, row))
    return new


def _insert(db: sqlite3.Connection, rows: list[_NewRow]) -> None:
    for start in range(0, len(rows), _INSERT_ROWS):
        part = rows[start : start + _INSERT_ROWS]
        db.execute(_insert_statement(len(part)), [value for row in part for value in row])


@cache
def _insert_statement(rows: int) -> str:
    return f"INSERT INTO events VALUES {', '.join(['(?, ?, ?, ?, ?, ?)'] * rows)}"  # noqa: S608 - question marks


def _create_tables(db: sqlite3.Connection, statements: Sequence[str]) -> None:
    for statement in statements:
        db.execute(statement)


def _create(db: sqlite3.Connection) -> None:
    _create_tables(db, [*_TABLES, *topic_ends.TABLES, *removals.TABLES])
    floor = to_key(EventId(now(), 0))
    db.execute("INSERT INTO log VALUES (?, NULL, 0, 0)", (floor,))
