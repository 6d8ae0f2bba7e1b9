"""The subscribers in the file of a roster: rows of many processes, read and dropped in parts.

A thread that steps through rows hands the interpreter over at each, and may wait milliseconds to
have it back while the loop is busy: so many rows are one value.
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
_PAGE_ROWS = 64  # as in the next one
_PAGE = """
SELECT json_group_array(json_array(CAST(name AS TEXT), CAST(text AS TEXT))) FROM (
  SELECT name, text FROM readers JOIN processes USING (owner)
  WHERE until + 0 > ? ORDER BY owner, name LIMIT 64 OFFSET ?)
"""
_TEXTS = """
SELECT json_group_array(json_array(CAST(name AS TEXT), CAST(text AS TEXT))) FROM readers
WHERE owner = ? AND name IN (SELECT value FROM json_each(?))
"""
_DELETE = "DELETE FROM readers WHERE owner = ? AND name IN (SELECT value FROM json_each(?))"


def listed(db: Db) -> list[tuple[str, str]]:
    """Return who is subscribed by processes that live, and the text about each."""
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


def came(db: Db, owner: str, found: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Write subscribers of a process down, and yield what is said of each."""
    if found:
        db.execute(_INSERT, (owner, json.dumps(found)))
    return (f"{JOINED}{name} {text}" for name, text in found)


def gone(db: Db, owner: str, names: list[str]) -> Iterator[str]:
    """Take subscribers of a process away, and yield what is said of each."""
    for start in range(0, len(names), _PAGE_ROWS):
        values = (owner, json.dumps(names[start : start + _PAGE_ROWS]))
        [(texts,)] = db.execute(_TEXTS, values)
        db.execute(_DELETE, values)
        for name, text in json.loads(texts):
            yield f"{LEFT}{name} {text}"
