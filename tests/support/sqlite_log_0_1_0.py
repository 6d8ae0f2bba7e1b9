"""What a hub of version 0.1.0 does to its SQLite file: its statements, in its transactions.

A clone of the newest commit alone does not have that version's code.
"""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from webapp.core.events import EventId

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from webapp.core.events import Draft

_CREATE = [
    """
CREATE TABLE events (place INTEGER PRIMARY KEY, nth INTEGER NOT NULL, total INTEGER NOT NULL,
  size INTEGER NOT NULL, own TEXT, draft TEXT NOT NULL)
""",
    "CREATE UNIQUE INDEX own ON events (own) WHERE own IS NOT NULL",
    """
CREATE TABLE log (floor INTEGER NOT NULL, own TEXT, nth INTEGER NOT NULL, total INTEGER NOT NULL)
""",
    """
CREATE VIEW ends AS SELECT floor, ifnull((SELECT max(place) FROM events), floor) AS head FROM log
""",
    f"INSERT INTO log VALUES ({(time.time_ns() // 1_000_000) << 20}, NULL, 0, 0)",
    "PRAGMA application_id = 0x54494449",
    "PRAGMA user_version = 2",
]
_KNOWN = "SELECT own, place, draft FROM events WHERE own IN (SELECT value FROM json_each(?))"
_TRIM_LOG = """
UPDATE log SET (floor, own, nth, total) =
  (SELECT place, own, nth, total FROM events WHERE place = ?)
"""


class OldLog:
    """The event log of a hub of version 0.1.0; the file is created when it is missing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            with closing(sqlite3.connect(path, isolation_level=None)) as db:
                db.execute("PRAGMA journal_mode = WAL")
                with db:
                    db.execute("BEGIN IMMEDIATE")
                    for statement in _CREATE:
                        db.execute(statement)

    def append(self, drafts: Sequence[Draft]) -> list[EventId] | None:
        """Append all drafts and return their positions, or None: an id has other content."""
        with self._transaction() as db:
            [floor] = db.execute("SELECT floor, nth, total FROM log")
            newest = "SELECT place, nth, total FROM events ORDER BY place DESC LIMIT 1"
            last, nth, total = db.execute(newest).fetchone() or floor
            ids = json.dumps([draft.id for draft in drafts if draft.id])
            found = db.execute(_KNOWN, (ids,))
            known = {own: (key, text) for own, key, text in found}
            keys, new = [], []
            for draft in drafts:
                text = draft.to_json()
                if draft.id in known:
                    if known[draft.id][1] != text:
                        return None
                    keys.append(known[draft.id][0])
                    continue
                last = max(last + 1, (time.time_ns() // 1_000_000) << 20)
                size = len(text.encode()) + 40
                nth, total = nth + 1, total + size
                new.append((last, nth, total, size, draft.id, text))
                keys.append(last)
                if draft.id:
                    known[draft.id] = last, text
            db.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", new)
        return [EventId(key >> 20, key & 0xFFFFF) for key in keys]

    def trim(self, rows: int) -> None:
        """Trim the oldest events."""
        with self._transaction() as db:
            oldest = "SELECT max(place) FROM (SELECT place FROM events ORDER BY place LIMIT ?)"
            [(last,)] = db.execute(oldest, (rows,))
            if last is not None:
                db.execute(_TRIM_LOG, (last,))
                db.execute("DELETE FROM events WHERE place <= ?", (last,))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._path, timeout=5, isolation_level=None)) as db, db:
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute("BEGIN IMMEDIATE")
            yield db
