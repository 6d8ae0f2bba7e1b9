"""The roster of one machine: an SQLite file beside the log's. When it is lost it is made anew."""

from __future__ import annotations

import json
import secrets
from time import time
from typing import TYPE_CHECKING, Any, TypeVar, cast

from gevent.threadpool import ThreadPool

from ...errors import ServiceUnavailable
from ..presence_base import (
    LEASE_FRACTION,
    MAX_NOTICE_BYTES,
    MAX_NOTICES,
    MAX_REVOKED,
    NOTICE_BATCH_BYTES,
    Notices,
    too_many_subjects,
    too_many_tokens,
)
from .database import Database
from .presence_rows import came, gone, listed
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
    # With each lies how many bytes there ever were, which tells what those cost that are kept.
    """
CREATE TABLE notices (number INTEGER PRIMARY KEY AUTOINCREMENT, total INTEGER NOT NULL,
  lines TEXT NOT NULL)
""",
    "CREATE TABLE revoked (what TEXT PRIMARY KEY, until REAL NOT NULL) WITHOUT ROWID",
]
# The file of a hub of before has no such table: each revocation of a subject lies beside the
# tokens, as ["subject", "name", time].
_SUBJECTS = [
    "CREATE TABLE subjects (subject TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID",
    """
INSERT OR IGNORE INTO subjects SELECT json_extract(what, '$[1]'), max(json_extract(what, '$[2]'))
FROM revoked WHERE what LIKE '["subject", %' AND json_valid(what) GROUP BY 1
""",
    """DELETE FROM revoked WHERE what LIKE '["subject", %' AND json_valid(what)""",
]
_REMEMBER = """
INSERT INTO subjects VALUES (?, ?) ON CONFLICT (subject) DO UPDATE SET at = max(at + 0, excluded.at)
"""
_RENEW = """
INSERT INTO processes VALUES (:owner, :until)
ON CONFLICT (owner) DO UPDATE SET until = excluded.until
"""
# A damaged row may hold text there, or a number that no sum fits behind.
_NEWEST = """
SELECT number, iif(typeof(total) = 'integer' AND total BETWEEN 0 AND 1 << 52, total, 0)
FROM notices ORDER BY number DESC LIMIT 1
"""
_OLDEST = _NEWEST.replace(" DESC", "")
_NOTICES = "SELECT number, lines FROM notices WHERE number > ? ORDER BY number LIMIT 64"
_LAST_NUMBER = 1 << 62


class SqlitePresenceStore:
    """A roster in a file.

    :param lease: in seconds, after which a killed process's readers are gone.
    """

    def __init__(self, path: Path, lease: float) -> None:
        self._path = path
        self._life = lease * LEASE_FRACTION
        self._owner = secrets.token_hex(8)
        self._database = Database(path, _create)
        self._threads = ThreadPool(1)
        self._bell: WakeupSocket | None = None
        self._closed = False

    def heartbeat(self, changes: Mapping[str, str | None]) -> bool:
        """Live on, and write down who came and left; see `Roster.renew`."""
        return self._ask(self._renew, changes)

    def deregister(self) -> None:
        """Take this process's readers away."""
        self._ask(self._retire)

    def subscribers(self) -> list[tuple[str, str]]:
        """Return who listens on this machine."""
        return self._ask(self._listed)

    def notices_after(self, after: int | None) -> Notices:
        """Return the notices after a number."""
        return self._ask(self._news, after)

    def broadcast(self, notice: str) -> None:
        """Tell all processes."""
        self._ask(self._post, notice)

    def revoke(self, what: str, until: float, notice: str) -> None:
        """Remember what is refused, and tell all processes."""
        self._ask(self._revoke, what, until, notice)

    def revoked(self) -> list[tuple[str, float]]:
        """Return what is refused, and until when."""
        return self._ask(self._select, "SELECT what, until FROM revoked", ())

    def revoke_subject(self, subject: str, at: float, oldest: float, notice: str) -> None:
        """Remember when a subject was revoked, and tell all processes."""
        self._ask(self._revoke_subject, subject, at, oldest, notice)

    def subjects(self) -> list[tuple[str, float]]:
        """Return the subjects that were revoked, and when."""
        return self._ask(self._subjects)

    def on_notice(self, callback: Callable[[], None]) -> None:
        """Have `callback` called when another process rings, or this one has written."""
        self._heard = callback
        self._ask(self._select, "SELECT 1", ())  # now it has its folder
        self._bell = WakeupSocket(self._path.with_name(f"{self._path.name}.wake"), callback)

    def close(self) -> None:
        """Let go of the file."""
        self._closed = True
        if self._bell:
            self._bell.close()
        self._threads.apply(self._database.close)
        self._threads.kill()

    def _ask(self, function: Callable[..., T], *values: Any) -> T:
        if self._closed:
            detail = "The hub is stopping."
            raise ServiceUnavailable(detail, "Come back in a moment.", reason="drain")
        answer, error, said = self._threads.apply(self._done, (function, *values))
        if error:
            raise error
        if said and self._bell:
            self._bell.ring()
            self._heard()
        return cast(T, answer)

    # In the thread

    def _done(
        self, function: Callable[..., T], *values: Any
    ) -> tuple[T | None, Exception | None, bool]:
        # gevent prints what is raised in its threads.
        self._said = False
        try:
            return function(*values), None, self._said
        except Exception as error:  # noqa: BLE001 - it is raised where the answer is waited for
            return None, error, False

    def _renew(self, changes: Mapping[str, str | None]) -> bool:
        now = time()
        with self._database.transaction() as db:
            known = db.execute("SELECT 1 FROM processes WHERE owner = ?", (self._owner,)).fetchall()
            db.execute(_RENEW, {"owner": self._owner, "until": now + self._life})
            self._say(db, self._changed(db, changes))
            gone = "SELECT owner FROM processes WHERE until + 0 <= ?"
            dead = db.execute(gone, (now,)).fetchall()
            for (owner,) in dead:
                self._drop(db, owner)
        return bool(known)

    def _changed(self, db: Db, changes: Mapping[str, str | None]) -> list[str]:
        left = [name for name, text in changes.items() if text is None]
        new = [(name, text) for name, text in changes.items() if text is not None]
        return [*gone(db, self._owner, left), *came(db, self._owner, new)]

    def _retire(self) -> None:
        with self._database.transaction() as db:
            self._drop(db, self._owner)

    def _drop(self, db: Db, owner: str) -> None:
        names = "SELECT json_group_array(CAST(name AS TEXT)) FROM readers WHERE owner = ?"
        [(found,)] = db.execute(names, (owner,))
        self._say(db, gone(db, owner, json.loads(found)))
        db.execute("DELETE FROM readers WHERE owner = ?", (owner,))
        db.execute("DELETE FROM processes WHERE owner = ?", (owner,))

    def _say(self, db: Db, notices: Iterable[str]) -> None:
        lines, size = list[str](), 0
        for notice in notices:
            lines.append(notice)
            size += len(notice)
            if size >= NOTICE_BATCH_BYTES:
                self._write(db, lines)
                lines, size = [], 0
        if lines:
            self._write(db, lines)
        self._drop_old(db)

    def _write(self, db: Db, lines: list[str]) -> None:
        text = "\n".join(lines)
        newest, before = db.execute(_NEWEST).fetchone() or (0, 0)
        if newest > _LAST_NUMBER:  # of a damaged row: begun anew, all notice that they missed some
            db.execute("DELETE FROM notices")
            db.execute("DELETE FROM sqlite_sequence")
        total = before + len(text.encode())
        db.execute("INSERT INTO notices (total, lines) VALUES (?, ?)", (total, text))
        self._said = True

    def _drop_old(self, db: Db) -> None:
        newest, total = db.execute(_NEWEST).fetchone() or (0, 0)
        while (oldest := db.execute(_OLDEST).fetchone()) and (
            oldest[0] <= newest - MAX_NOTICES or total - oldest[1] > MAX_NOTICE_BYTES
        ):
            db.execute("DELETE FROM notices WHERE number = ?", oldest[:1])

    def _news(self, after: int | None) -> Notices:
        with self._database.connection() as db:
            newest, _ = db.execute(_NEWEST).fetchone() or (0, 0)
            if after is None:
                return Notices([], newest)
            if after > newest:
                return Notices([], 0, complete=False)  # the file is another one
            oldest, _ = db.execute(_OLDEST).fetchone() or (1, 0)
            notices, upto, size = list[str](), after, 0
            for number, lines in db.execute(_NOTICES, (after,)):
                text = lines if isinstance(lines, str) else ""
                notices += text.split("\n")
                upto, size = number, size + len(text)
                if size >= NOTICE_BATCH_BYTES:
                    break
        return Notices(notices, upto, oldest <= after + 1)

    def _post(self, notice: str) -> None:
        with self._database.transaction() as db:
            self._say(db, [notice])

    def _revoke(self, what: str, until: float, notice: str) -> None:
        with self._database.transaction() as db:
            db.execute("DELETE FROM revoked WHERE until <= ?", (time(),))
            others = "SELECT count(*) FROM revoked WHERE what != ?"
            [(count,)] = db.execute(others, (what,))
            if count >= MAX_REVOKED:
                raise too_many_tokens()
            db.execute("INSERT OR REPLACE INTO revoked VALUES (?, ?)", (what, until))
            self._say(db, [notice])

    def _revoke_subject(self, subject: str, at: float, oldest: float, notice: str) -> None:
        with self._database.transaction() as db:
            _have_subjects(db)
            db.execute("DELETE FROM subjects WHERE at < ?", (oldest,))
            others = "SELECT count(*) FROM subjects WHERE subject != ?"
            [(count,)] = db.execute(others, (subject,))
            if count >= MAX_REVOKED:
                raise too_many_subjects()
            db.execute(_REMEMBER, (subject, at))
            self._say(db, [notice])

    def _subjects(self) -> list[tuple[str, float]]:
        with self._database.transaction() as db:
            _have_subjects(db)
            return db.execute("SELECT subject, at FROM subjects").fetchall()

    def _listed(self) -> list[tuple[str, str]]:
        with self._database.connection() as db:
            return listed(db)

    def _select(self, query: str, values: tuple[Any, ...]) -> list[Any]:
        with self._database.connection() as db:
            return db.execute(query, values).fetchall()


def _create(db: Db) -> None:
    for table in _TABLES:
        db.execute(table)


def _have_subjects(db: Db) -> None:
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'subjects'").fetchone():
        for statement in _SUBJECTS:
            db.execute(statement)
