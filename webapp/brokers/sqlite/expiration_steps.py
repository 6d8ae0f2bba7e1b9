"""Removes events that have expired from an SQLite file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..base import now
from . import expirations
from .removal_steps import draft_of, take_out
from .rows import from_key

if TYPE_CHECKING:
    from .database import Database

_STEP_ROWS = 500
_DUE = """
SELECT expires, position, (SELECT draft FROM events WHERE place = position) FROM expirations
WHERE expires <= ? ORDER BY expires LIMIT ?
"""
_FORGET = "DELETE FROM expirations WHERE expires = ? AND position = ?"


class ExpirationSteps:
    """Removes events that have expired: every call blocks, and is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def step(self) -> bool:
        """Remove some; return whether there may be more."""
        with self._database.connection() as db:
            if not expirations.is_due(db):
                return False
        with self._database.transaction() as db:
            at = now()
            due = db.execute(_DUE, (at, _STEP_ROWS)).fetchall()
            drafts = {key: draft_of(text) for _, key, text in due if text is not None}
            expired = {
                key: draft
                for key, draft in drafts.items()
                if draft and draft.ttl and from_key(key).ms + draft.ttl <= at
            }
            take_out(db, expired)
            keys = [(expires, key) for expires, key, _ in due]
            db.executemany(_FORGET, keys)
        return len(due) == _STEP_ROWS
