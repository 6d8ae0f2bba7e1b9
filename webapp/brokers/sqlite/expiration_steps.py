"""Removes events that have expired from an SQLite file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..base import now
from . import expirations
from .removal_steps import STEP_BYTES, STEP_ENTRIES, STEP_ROWS, draft_of, take_out
from .rows import from_key

if TYPE_CHECKING:
    from ...core.events import Draft
    from .database import Database

_DUE = "SELECT expires, position FROM expirations WHERE expires <= ? ORDER BY expires LIMIT ?"
_GET = "SELECT draft FROM events WHERE place = ?"
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
            due = db.execute(_DUE, (at, STEP_ROWS)).fetchall()
            looked_at = size = entries = 0
            expired: dict[int, Draft] = {}
            for _, key in due:
                if size > STEP_BYTES or entries > STEP_ENTRIES:
                    break
                looked_at += 1
                text = (db.execute(_GET, (key,)).fetchone() or ("",))[0]
                size += len(text)
                draft = draft_of(text)
                if draft and draft.ttl and from_key(key).ms + draft.ttl <= at:
                    expired[key] = draft
                    entries += len(draft.topics)
            take_out(db, expired)
            db.executemany(_FORGET, due[:looked_at])
        return looked_at == STEP_ROWS or looked_at < len(due)
