"""The log in an SQLite file: every call blocks, and is one transaction.

Each row has the number of rows and of bytes that there ever were up to it: a commit writes nothing
else, and what is kept between two rows is told from the two.

A thread that steps through rows lets go of the interpreter at each, and may wait milliseconds to
have it back while the loop is busy. So a page is one row of text, and an insert is one statement
for many rows.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from ...core.events import EventId
from ...errors import ServiceUnavailable
from ..base import Bounds, now
from .database import Database
from .rows import LAST_KEY, SEQ_BITS, Row, key_of, place_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence
    from pathlib import Path


_ROWS = 500  # read in one step
_TRIM_ROWS = 2000  # dropped in one step: more than a commit adds
_INSERTED = 64  # rows in one statement
_FULL = 0.99  # of the bytes, after trimming: not every commit has one after it

_TABLES = [
    """
CREATE TABLE events (place INTEGER PRIMARY KEY, nth INTEGER NOT NULL, total INTEGER NOT NULL,
  size INTEGER NOT NULL, own TEXT, draft TEXT NOT NULL)
""",
    "CREATE UNIQUE INDEX own ON events (own) WHERE own IS NOT NULL",
    # Of the newest that was dropped.
    """
CREATE TABLE log (floor INTEGER NOT NULL, own TEXT, nth INTEGER NOT NULL, total INTEGER NOT NULL)
""",
    """
CREATE VIEW ends AS SELECT floor, ifnull((SELECT max(place) FROM events), floor) AS head FROM log
""",
]
# The running total comes from the sizes alone: a page must not touch the data behind it.
# A row is one line of a page; what a damaged one holds beside that is left out.
_PAGE = """
SELECT floor, head, EXISTS (SELECT 1 FROM events WHERE place = :after), upto, page
FROM ends, (
  SELECT max(place) AS upto, group_concat(place || ' ' || line, char(10)) AS page FROM (
    SELECT place, iif(instr(draft, char(10)), '', draft) AS line FROM events
    WHERE place > :after AND place <= (
      SELECT max(place) FROM (
        SELECT place, sum(size) OVER (ORDER BY place) - size AS before FROM (
          SELECT place, min(max(size + 0, 0), 1 << 30) AS size FROM events
          WHERE place > :after ORDER BY place LIMIT :rows))
      WHERE before < :bytes)
    ORDER BY place))
"""
_BACKWARDS = """
SELECT min(place), group_concat(place || ' ' || line, char(10)) FROM (
  SELECT place, iif(instr(draft, char(10)), '', draft) AS line FROM events
  WHERE place < :place AND place >= (
    SELECT min(place) FROM (
      SELECT place, sum(size) OVER (ORDER BY place DESC) - size AS before FROM (
        SELECT place, min(max(size + 0, 0), 1 << 30) AS size FROM events
        WHERE place < :place ORDER BY place DESC LIMIT :rows))
    WHERE before < :bytes)
  ORDER BY place)
"""
# The newest event stays, however large it is, until it is too old.
_TRIMMED = """
SELECT max(place), count(*) FROM (
  SELECT place, nth, total - size AS before FROM events ORDER BY place LIMIT :rows)
WHERE place < :too_old OR (place < :head AND (nth <= :nth OR before < :total))
"""
# The id of a private event is forgotten: who may know it could not be told any more.
_TRIM_LOG = """
UPDATE log SET (floor, own, nth, total) = (SELECT place,
  CASE WHEN json_valid(draft) THEN iif(json_extract(draft, '$[4]'), NULL, own) END, nth, total
  FROM events WHERE place = ?)
"""
_HEAD = "SELECT place, nth, total FROM events ORDER BY place DESC LIMIT 1"
_MOST = 1 << 52  # rows or bytes: with more, or with what is no number, a row is damaged
_KEPT = "SELECT ifnull((SELECT nth + 0 FROM events WHERE place = head), nth) - nth FROM log, ends"
_LOCATE = """
SELECT place FROM events WHERE place = :place OR own = :own
UNION ALL SELECT floor FROM log WHERE floor = :place OR own = :own
"""

_New = tuple[int, int, int, int, str | None, str]  # as the table has it


class Appended(NamedTuple):
    """What became of the offers of one transaction."""

    after: EventId  # the head before
    positions: list[list[EventId] | None]  # of each offer; None: an own id has other content
    over: bool  # more is kept than should be


class Page(NamedTuple):
    """Some rows, as `<key> <text>` for `decode_row`."""

    rows: list[str]
    end: EventId | None  # the place of the last, or of the first of a page backwards


class Next(NamedTuple):
    """What follows a place, and where the log was at that moment."""

    page: Page
    bounds: Bounds
    known: bool  # the log holds the place


class End(NamedTuple):
    """A place, how many rows there ever were up to it, and how many bytes these had."""

    key: int
    nth: int
    total: int


class LogTable:
    """A log file, made when it is missing; any thread may call.

    :param max_age: in seconds.
    """

    def __init__(self, path: Path, max_events: int, max_bytes: int, max_age: float) -> None:
        self._database = Database(path, _create)
        self._max_events, self._max_bytes = max_events, max_bytes
        self._max_age = round(max_age * 1000)

    def append(self, offers: Sequence[Sequence[Row]]) -> Appended:
        """Put the rows of every offer in the log, all or none of each."""
        self._database.prepare_try_write()
        with self._database.transaction() as db:
            return self._append(db, offers)

    def append_at_once(self, rows: Sequence[Row]) -> Appended | None:
        """Put some rows in the log where nobody else has it locked; None: nothing was done."""
        return self._database.try_write(lambda db: self._append(db, [rows]))

    def _append(self, db: sqlite3.Connection, offers: Sequence[Sequence[Row]]) -> Appended:
        floor, head = _ends(db)
        known, positions, new = _known(db, offers), list[list[EventId] | None](), list[_New]()
        last, nth, total = head
        for offer in offers:
            keys = _assigned(offer, known, last)
            positions.append(None if keys is None else list(map(place_of, keys)))
            for row, key in zip(offer, keys or (), strict=False):
                if key > last:
                    last, nth, total = key, nth + 1, total + row.size
                    new.append((key, nth, total, row.size, row.own, row.text))
        _insert(db, new)
        over = self._over(nth - floor.nth, total - floor.total)
        return Appended(place_of(head.key), positions, over)

    def trim(self) -> bool:
        """Drop some of what is over the bounds; return whether there may be more."""
        with self._database.transaction() as db:
            _, head = _ends(db)
            bounds = {
                "rows": _TRIM_ROWS,
                "head": head.key,
                "too_old": key_of(EventId(now() - self._max_age, 0)),
                "nth": head.nth - self._max_events,
                "total": head.total - round(self._max_bytes * _FULL),
            }
            [(upto, dropped)] = db.execute(_TRIMMED, bounds)
            if dropped:
                db.execute(_TRIM_LOG, (upto,))
                db.execute("DELETE FROM events WHERE place <= ?", (upto,))
        return bool(dropped == _TRIM_ROWS)

    def after(self, position: EventId, max_bytes: int) -> Next:
        """Return the next rows: about `max_bytes` or some hundred, at least one."""
        values = {"after": key_of(position), "rows": _ROWS, "bytes": max_bytes}
        with self._database.connection() as db:
            [(floor, head, known, upto, text)] = db.execute(_PAGE, values)
        bounds = Bounds(place_of(floor), place_of(head))
        return Next(_page(upto, text), bounds, known or floor == values["after"])

    def before(self, position: EventId, limit: int, max_bytes: int) -> Page:
        """Return the newest rows before a place, in the log's order, bounded likewise."""
        values = {"place": key_of(position), "rows": min(limit, _ROWS), "bytes": max_bytes}
        with self._database.connection() as db:
            [(start, text)] = db.execute(_BACKWARDS, values)
        return _page(start, text)

    def bounds(self) -> Bounds:
        """Return where the log begins and ends."""
        with self._database.connection() as db:
            [(floor, head)] = db.execute("SELECT floor, head FROM ends")
        return Bounds(place_of(floor), place_of(head))

    def count(self) -> int:
        """Return how many rows are kept."""
        with self._database.connection() as db:
            [(kept,)] = db.execute(_KEPT)
        return int(kept)

    def position_of(self, id: str) -> EventId | None:
        """Return the place that an id names, or None where the log does not hold it."""
        position = EventId.parse(id)
        key = key_of(position) if position and place_of(key_of(position)) == position else None
        with self._database.connection() as db:
            found = db.execute(_LOCATE, {"place": key, "own": id}).fetchall()
        return place_of(found[0][0]) if found else None

    def close(self) -> None:
        """Close the file as soon as nobody uses it."""
        self._database.close()

    def _over(self, count: int, size: int) -> bool:
        slack = min(_TRIM_ROWS, self._max_events // 10)
        return count > self._max_events + slack or size > self._max_bytes


def _ends(db: sqlite3.Connection) -> tuple[End, End]:
    """Return the log's floor and head."""
    [floor] = db.execute("SELECT floor, nth, total FROM log")
    key, nth, total = floor
    floor = End(key, _counted(nth, 0), _counted(total, 0))
    key, nth, total = db.execute(_HEAD).fetchone() or floor
    return floor, End(key, _counted(nth, floor.nth), _counted(total, floor.total))


def _counted(number: Any, least: int) -> int:
    """Return how many there ever were; what cannot be true is taken for the least there were."""
    return number if isinstance(number, int) and 0 <= number - least <= _MOST else least


def _known(db: sqlite3.Connection, offers: Sequence[Sequence[Row]]) -> dict[str, tuple[int, str]]:
    """Return the key and the text of those publishers' own ids that the log holds."""
    ids = [row.own for offer in offers for row in offer if row.own]
    if not ids:
        return {}
    found = db.execute(
        "SELECT own, place, draft FROM events WHERE own IN (SELECT value FROM json_each(?))",
        (json.dumps(ids),),
    )
    return {own: (key, text) for own, key, text in found}


def _assigned(
    offer: Sequence[Row], known: dict[str, tuple[int, str]], last: int
) -> list[int] | None:
    """Return the keys of an offer's rows, those after `last` being new; None: a conflict."""
    keys, mine = [], dict[str, tuple[int, str]]()
    for row in offer:
        kept = (mine.get(row.own) or known.get(row.own)) if row.own else None
        if kept is None:
            # Never backwards, whatever the clock does; a full sequence carries by itself.
            last = max(last + 1, now() << SEQ_BITS)
            if last > LAST_KEY:
                raise _at_its_end()
            kept = last, row.text
            if row.own:
                mine[row.own] = kept
        elif kept[1] != row.text:
            return None
        keys.append(kept[0])
    known |= mine
    return keys


def _at_its_end() -> ServiceUnavailable:
    detail = "An event lies at the last place that the log can have: nothing fits behind it."
    return ServiceUnavailable(detail, "Stop the hub, move the log's file away and start again.")


def _insert(db: sqlite3.Connection, rows: list[_New]) -> None:
    for start in range(0, len(rows), _INSERTED):
        part = rows[start : start + _INSERTED]
        values = ", ".join(["(?, ?, ?, ?, ?, ?)"] * len(part))
        db.execute(f"INSERT INTO events VALUES {values}", [v for row in part for v in row])  # noqa: S608 - question marks


def _create(db: sqlite3.Connection) -> None:
    for table in _TABLES:
        db.execute(table)
    born = key_of(EventId(now(), 0))
    db.execute("INSERT INTO log VALUES (?, NULL, 0, 0)", (born,))


def _page(end: int | None, text: str | None) -> Page:
    return Page(text.split("\n") if text else [], None if end is None else place_of(end))
