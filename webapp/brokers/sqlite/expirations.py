"""When the events in an SQLite file expire: a table of the events that have a `ttl`.

Each read of events leaves out those that have expired, by their rows. A read of the directory of
topics has them removed before. Version 0.1.0 knows no such table, and reads them as any others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..base import now
from .removals import RemovalPendingError
from .rows import from_key

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from .rows import Row

_TABLES = [
    """
CREATE TABLE IF NOT EXISTS expirations (expires INTEGER NOT NULL, position INTEGER NOT NULL,
  PRIMARY KEY (expires, position)) WITHOUT ROWID
""",
    "CREATE INDEX IF NOT EXISTS expirations_by_position ON expirations (position)",
]
_HAS_TABLE = "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'expirations')"
_IS_DUE = "SELECT EXISTS (SELECT 1 FROM expirations WHERE expires <= ?)"


def store(db: sqlite3.Connection, rows: Iterable[tuple[int, Row]]) -> None:
    """Store when new rows expire.

    :param rows: with their keys.
    """
    new = [(from_key(key).ms + row.draft.ttl, key) for key, row in rows if row.draft.ttl]
    if new:
        for table in _TABLES:
            db.execute(table)
        db.executemany("INSERT OR IGNORE INTO expirations VALUES (?, ?)", new)


def is_due(db: sqlite3.Connection) -> bool:
    """Return whether the index by topic has events that have expired."""
    return _has_table(db) and bool(db.execute(_IS_DUE, (now(),)).fetchone()[0])


def require_none(db: sqlite3.Connection) -> None:
    """Refuse to read the index by topic while it has events that have expired.

    :raises RemovalPendingError: it has.
    """
    if is_due(db):
        raise RemovalPendingError


def trim(db: sqlite3.Connection, last: int) -> None:
    """Forget the rows up to a key, which were trimmed."""
    if _has_table(db):
        db.execute("DELETE FROM expirations WHERE position <= ?", (last,))


def _has_table(db: sqlite3.Connection) -> bool:
    return bool(db.execute(_HAS_TABLE).fetchone()[0])
