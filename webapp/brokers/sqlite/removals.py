"""The removals that have begun in an SQLite file. Each read leaves out what they remove."""

from __future__ import annotations

import sqlite3

from ...core.removals import Removal
from .rows import from_key

TABLES = [
    # `first`: what is to be removed has keys from here to `last`; no more if `last` is lower.
    """
CREATE TABLE IF NOT EXISTS removals (position INTEGER PRIMARY KEY, topic TEXT NOT NULL,
  first INTEGER NOT NULL, last INTEGER NOT NULL, removed INTEGER NOT NULL)
"""
]
_PENDING = "SELECT topic, first, last FROM removals WHERE first <= last"


class RemovalPendingError(Exception):
    """The index by topic cannot be read: some of what it has is being removed."""


def require_none(db: sqlite3.Connection) -> None:
    """Refuse to read the index by topic while a removal goes on.

    :raises RemovalPendingError: one does.
    """
    if pending(db):
        raise RemovalPendingError


def pending(db: sqlite3.Connection) -> list[Removal]:
    """Return the removals that have begun and not ended. Call it before a page is read: what a
    removal has removed meanwhile is not in the page.
    """
    try:
        rows = db.execute(_PENDING).fetchall()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):  # version 0.1.0 made the file
            return []
        raise
    return [Removal(topic, from_key(first), from_key(last)) for topic, first, last in rows]
