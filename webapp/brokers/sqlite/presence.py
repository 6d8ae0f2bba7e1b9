"""The presence store of one machine: an SQLite file beside that of the event log. If it is lost,
each process creates it again and registers its subscribers.
"""

from __future__ import annotations

import json
import secrets
from time import time
from typing import TYPE_CHECKING, TypeVar

from ..presence_base import (
    LEASE_FRACTION,
    MAX_NOTICE_BYTES,
    MAX_NOTICES,
    MAX_REVOKED,
    NOTICE_BATCH_BYTES,
    Notices,
    batches,
    too_many_subjects,
    too_many_tokens,
)
from .database import Database
from .presence_rows import delete, insert, select
from .threads import SqliteThreads
from .wakeup import WakeupSocket

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    Db = sqlite3.Connection

T = TypeVar("T")

_TABLES = [
    "CREATE TABLE processes (owner TEXT PRIMARY KEY, until REAL NOT NULL)",
    """
CREATE TABLE readers (owner TEXT NOT NULL, name TEXT NOT NULL, text TEXT NOT NULL,
  PRIMARY KEY (owner, name)) WITHOUT ROWID
""",
    # `total` counts the bytes of all notices so far: a difference is the size of those between.
    """
CREATE TABLE notices (number INTEGER PRIMARY KEY AUTOINCREMENT, total INTEGER NOT NULL,
  lines TEXT NOT NULL)
""",
    "CREATE TABLE revoked (what TEXT PRIMARY KEY, until REAL NOT NULL) WITHOUT ROWID",
]
# Files of older hubs have no such table: they store each revocation of a subject among the tokens,
# as ["subject", "name", time].
_CREATE_SUBJECTS = [
    "CREATE TABLE subjects (subject TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID",
    """
INSERT OR IGNORE INTO subjects SELECT json_extract(what, '$[1]'), max(json_extract(what, '$[2]'))
FROM revoked WHERE what LIKE '["subject", %' AND json_valid(what) GROUP BY 1
""",
    """DELETE FROM revoked WHERE what LIKE '["subject", %' AND json_valid(what)""",
]
_INSERT_SUBJECT = """
INSERT INTO subjects VALUES (?, ?) ON CONFLICT (subject) DO UPDATE SET at = max(at + 0, excluded.at)
"""
_RENEW = """
INSERT INTO processes VALUES (:owner, :until)
ON CONFLICT (owner) DO UPDATE SET until = excluded.until
"""
# A damaged row may have text in `total`, or a number that is too large to add to.
_NEWEST = """
SELECT number, iif(typeof(total) = 'integer' AND total BETWEEN 0 AND 1 << 52, total, 0)
FROM notices ORDER BY number DESC LIMIT 1
"""
_OLDEST = _NEWEST.replace(" DESC", "")
_NOTICES = "SELECT number, lines FROM notices WHERE number > ? ORDER BY number LIMIT 64"
_MAX_NOTICE_NUMBER = 1 << 62


class SqlitePresenceStore:
    """Subscribers, notices and revocations in a file. See `PresenceStore`.

    :param lease: in seconds, after which the subscribers of a killed process are dropped.
    """

    def __init__(self, path: Path, lease: float) -> None:
        self._path = path
        self._lease = lease * LEASE_FRACTION
        self._owner = secrets.token_hex(8)
        self._database = Database(path, _create, "presence store")
        self._thread = SqliteThreads(1)
        self._wakeups: WakeupSocket | None = None
        self._callback: Callable[[], None] | None = None
        self._wrote_notice = False  # by the thread, in the call that it runs

    def heartbeat(self, changes: Mapping[str, str | None]) -> bool:
        """Renew this process's lease and store changes; see `PresenceStore.heartbeat`."""
        return self._write(lambda db: self._heartbeat(db, changes))

    def deregister(self) -> None:
        """Remove this process's subscribers."""
        self._write(lambda db: self._drop(db, self._owner))

    def subscribers(self, text: str = "") -> list[tuple[str, str]]:  # noqa: ARG002 - not needed
        """Return the subscribers of all processes on this machine."""
        return self._read(select)

    def notices_after(self, number: int | None) -> Notices:
        """Return the next notices after a number."""
        return self._read(lambda db: _notices_after(db, number))

    def broadcast(self, notice: str) -> None:
        """Send a notice to all processes."""
        self._write(lambda db: self._add_notices(db, [notice]))

    def revoke(self, what: str, until: float, notice: str) -> None:
        """Store a revoked token until a time, and send a notice."""

        def store(db: Db) -> None:
            db.execute("DELETE FROM revoked WHERE until <= ?", (time(),))
            others = "SELECT count(*) FROM revoked WHERE what != ?"
            if db.execute(others, (what,)).fetchone()[0] >= MAX_REVOKED:
                raise too_many_tokens()
            db.execute("INSERT OR REPLACE INTO revoked VALUES (?, ?)", (what, until))
            self._add_notices(db, [notice])

        self._write(store)

    def revoked(self) -> list[tuple[str, float]]:
        """Return the revoked tokens, and until when each is stored."""
        return self._read(lambda db: db.execute("SELECT what, until FROM revoked").fetchall())

    def revoke_subject(self, subject: str, at: float, oldest: float, notice: str) -> None:
        """Store when a subject was revoked, and send a notice."""

        def store(db: Db) -> None:
            _ensure_subjects(db)
            db.execute("DELETE FROM subjects WHERE at < ?", (oldest,))
            others = "SELECT count(*) FROM subjects WHERE subject != ?"
            if db.execute(others, (subject,)).fetchone()[0] >= MAX_REVOKED:
                raise too_many_subjects()
            db.execute(_INSERT_SUBJECT, (subject, at))
            self._add_notices(db, [notice])

        self._write(store)

    def subjects(self) -> list[tuple[str, float]]:
        """Return the revoked subjects, and when each was revoked."""

        def read(db: Db) -> list[tuple[str, float]]:
            _ensure_subjects(db)
            return db.execute("SELECT subject, at FROM subjects").fetchall()

        return self._write(read)

    def on_notice(self, callback: Callable[[], None]) -> None:
        """Call `callback` after another process or this one has written a notice."""
        self._callback = callback
        self._read(lambda _: None)  # this creates the folder
        folder = self._path.with_name(f"{self._path.name}.wake")
        self._wakeups = WakeupSocket(folder, lambda _: callback())

    def close(self) -> None:
        """Close the file."""
        if self._wakeups:
            self._wakeups.close()
        self._thread.close(self._database.close)

    def _read(self, query: Callable[[Db], T]) -> T:
        def run() -> T:
            with self._database.connection() as db:
                return query(db)

        return self._thread.call(run)

    def _write(self, change: Callable[[Db], T]) -> T:
        """Make a change in one transaction. If it adds notices, have all processes read them."""

        def run() -> tuple[T, bool]:
            self._wrote_notice = False
            with self._database.transaction() as db:
                return change(db), self._wrote_notice

        result, wrote_notice = self._thread.call(run)
        if wrote_notice and self._wakeups and self._callback:
            self._wakeups.notify()
            self._callback()
        return result

    # In the thread

    def _heartbeat(self, db: Db, changes: Mapping[str, str | None]) -> bool:
        now = time()
        known = db.execute("SELECT 1 FROM processes WHERE owner = ?", (self._owner,)).fetchall()
        db.execute(_RENEW, {"owner": self._owner, "until": now + self._lease})
        left = [name for name, record in changes.items() if record is None]
        joined = [(name, record) for name, record in changes.items() if record is not None]
        self._add_notices(db, delete(db, self._owner, left))
        self._add_notices(db, insert(db, self._owner, joined))
        expired = "SELECT owner FROM processes WHERE until + 0 <= ?"
        for (owner,) in db.execute(expired, (now,)).fetchall():
            self._drop(db, owner)
        return bool(known)

    def _drop(self, db: Db, owner: str) -> None:
        names = "SELECT json_group_array(CAST(name AS TEXT)) FROM readers WHERE owner = ?"
        [(found,)] = db.execute(names, (owner,))
        self._add_notices(db, delete(db, owner, json.loads(found)))
        db.execute("DELETE FROM readers WHERE owner = ?", (owner,))
        db.execute("DELETE FROM processes WHERE owner = ?", (owner,))

    def _add_notices(self, db: Db, notices: Iterable[str]) -> None:
        for batch in batches(notices):
            text = "\n".join(batch)
            newest, before = db.execute(_NEWEST).fetchone() or (0, 0)
            if newest > _MAX_NOTICE_NUMBER:  # of a damaged row: begin again; all miss some notices
                db.execute("DELETE FROM notices")
                db.execute("DELETE FROM sqlite_sequence")
            total = before + len(text.encode())
            db.execute("INSERT INTO notices (total, lines) VALUES (?, ?)", (total, text))
            self._wrote_notice = True
        _drop_old_notices(db)


def _drop_old_notices(db: Db) -> None:
    newest, total = db.execute(_NEWEST).fetchone() or (0, 0)
    while (oldest := db.execute(_OLDEST).fetchone()) and (
        oldest[0] <= newest - MAX_NOTICES or total - oldest[1] > MAX_NOTICE_BYTES
    ):
        db.execute("DELETE FROM notices WHERE number = ?", oldest[:1])


def _notices_after(db: Db, after: int | None) -> Notices:
    newest, _ = db.execute(_NEWEST).fetchone() or (0, 0)
    if after is None:
        return Notices([], newest)
    if after > newest:
        return Notices([], 0, complete=False)  # of another file
    oldest, _ = db.execute(_OLDEST).fetchone() or (1, 0)
    notices, last, size = list[str](), after, 0
    for number, lines in db.execute(_NOTICES, (after,)):
        text = lines if isinstance(lines, str) else ""
        notices += text.split("\n")
        last, size = number, size + len(text)
        if size >= NOTICE_BATCH_BYTES:
            break
    return Notices(notices, last, oldest <= after + 1)


def _create(db: Db) -> None:
    for table in _TABLES:
        db.execute(table)


def _ensure_subjects(db: Db) -> None:
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'subjects'").fetchone():
        for statement in _CREATE_SUBJECTS:
            db.execute(statement)
