"""The subscribers in a presence file: rows of many processes, read and deleted in parts.

A thread that steps through rows releases the interpreter lock at each one, and may wait
milliseconds for it while the event loop is busy. So many rows are read as one value.
"""

from __future__ import annotations

import json
from time import time
from typing import TYPE_CHECKING

from ..presence_base import JOINED, LEFT

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence

    Db = sqlite3.Connection

_INSERT = """
INSERT OR REPLACE INTO readers
SELECT ?, json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?)
"""
_PAGE_ROWS = 64  # as in the next statement
_PAGE = """
SELECT json_group_array(json_array(CAST(name AS TEXT), CAST(text AS TEXT))) FROM (
  SELECT name, text FROM readers JOIN processes USING (owner)
  WHERE until + 0 > ? ORDER BY owner, name LIMIT 64 OFFSET ?)
"""
_RECORDS = """
SELECT json_group_array(json_array(CAST(name AS TEXT), CAST(text AS TEXT))) FROM readers
WHERE owner = ? AND name IN (SELECT value FROM json_each(?))
"""
_DELETE = "DELETE FROM readers WHERE owner = ? AND name IN (SELECT value FROM json_each(?))"


def select(db: Db) -> list[tuple[str, str]]:
    """Return the subscribers of all processes that have a lease: the id and the record of each."""
    found = list[tuple[str, str]]()
    with db:
        db.execute("BEGIN")  # all parts are of one moment
        now = time()
        while True:
            [(page,)] = db.execute(_PAGE, (now, len(found)))
            rows = json.loads(page)
            found += map(tuple, rows)
            if len(rows) < _PAGE_ROWS:
                return sorted(found)


def insert(db: Db, owner: str, subscribers: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Store subscribers of a process, and yield a notice about each."""
    if subscribers:
        db.execute(_INSERT, (owner, json.dumps(subscribers)))
    return (f"{JOINED}{name} {record}" for name, record in subscribers)


def delete(db: Db, owner: str, names: list[str]) -> Iterator[str]:
    """Delete subscribers of a process, and yield a notice about each."""
    for start in range(0, len(names), _PAGE_ROWS):
        values = (owner, json.dumps(names[start : start + _PAGE_ROWS]))
        [(records,)] = db.execute(_RECORDS, values)
        db.execute(_DELETE, values)
        for name, record in json.loads(records):
            yield f"{LEFT}{name} {record}"
