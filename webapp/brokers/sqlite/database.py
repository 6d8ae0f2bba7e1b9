"""One SQLite file that the threads of many processes use, and what can go wrong with it.

It is in WAL mode with `synchronous=NORMAL`. Whichever process is killed, what was committed is
there. Only when the machine itself loses power, the last commits may be missing.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections import deque
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ...private_files import create_file, danger
from .folder_lock import exclusive
from .problems import failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ...errors import TidingsError

T = TypeVar("T")

logger = logging.getLogger(__name__)

_APPLICATION, _VERSION = 0x54494449, 2  # the values of `PRAGMA application_id`, `user_version`
_BUSY_TIMEOUT_MS = 5000  # how long to wait for another process's transaction
_SHORT_TIMEOUT_MS = 20  # the same in the background
_KEPT_WAL_BYTES = 8 << 20  # size of the write-ahead log after a burst
_MAX_WAL_BYTES = 64 << 20  # size at which it is truncated
_TRUNCATE_TIMEOUT_MS = 1000  # how long publishers may wait until it is truncated
# Of each connection, if it needs so many: the rows of a page of events that lie far apart, and what
# of the index finds them. SQLite's default is half of it.
_CACHE_KIB = 4000
_CHECKPOINT_PAGES = 1000  # after which a commit moves the write-ahead log: SQLite's default
_SUFFIXES = ("-wal", "-shm", "-journal")  # of the files that SQLite creates, with the file's mode


class PooledConnection(NamedTuple):
    """A connection, and the device and inode of its file."""

    file: tuple[int, int] | None
    db: sqlite3.Connection


class Database:
    """A file that any thread may use; it is created when it is missing.

    :param path: without symbolic links, because SQLite creates its other files beside the real one.
    :param create: creates the tables of a new file.
    :param content: what the file stores, as errors name it.
    """

    def __init__(
        self, path: Path, create: Callable[[sqlite3.Connection], None], content: str
    ) -> None:
        self.path = path
        self._content = content
        self._files = [path.with_name(f"{path.name}{suffix}") for suffix in ("", *_SUFFIXES)]
        self._wal = self._files[1]
        self._create = create
        self._idle: deque[PooledConnection] = deque()
        self._impatient: PooledConnection | None = None  # for `try_write`
        self._opened = self._closed = False
        self._without_wal: tuple[int, int] | None = None  # the file that could not be set to WAL

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection for a transaction that writes. An error rolls it back."""
        with self.connection() as db:
            with db:
                db.execute("BEGIN IMMEDIATE")
                yield db
            self._truncate_wal(db)

    @contextmanager
    def background_connection(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection that hardly waits for a lock, and whose commits do not wait for the
        disk: its caller moves the content of the write-ahead log into the file later.
        """
        with self.connection() as db:
            _set(db, busy_timeout=_SHORT_TIMEOUT_MS, wal_autocheckpoint=0)
            try:
                yield db
            finally:
                _set(db, busy_timeout=_BUSY_TIMEOUT_MS, wal_autocheckpoint=_CHECKPOINT_PAGES)

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection for a transaction that reads: all its statements see one moment."""
        with self.connection() as db, db:
            db.execute("BEGIN")
            yield db

    def prepare_try_write(self) -> None:
        """Open the connection that `try_write` needs."""
        if self._impatient is None and not self._closed:
            with self._translated_errors():
                connection = self._open()
                _set(connection.db, busy_timeout=0, wal_autocheckpoint=0)
                self._impatient = connection

    def try_write(self, write: Callable[[sqlite3.Connection], T]) -> T | None:
        """Write and commit as `transaction` does, but without waiting: neither for a lock nor for
        the disk, because the write-ahead log is not moved into the file. Call it from one thread
        only.

        :returns: None if that is not possible now; then nothing is written.
        """
        connection = self._impatient
        if connection is None:
            return None
        try:
            if connection.file == _identity(self.path):
                with connection.db as db:
                    db.execute("BEGIN IMMEDIATE")
                    return write(db)
        except (sqlite3.Error, OSError) as error:
            busy = getattr(error, "sqlite_errorname", "") == "SQLITE_BUSY"
            if busy and not connection.db.in_transaction:
                return None
        self._impatient = None
        connection.db.close()
        return None

    def _truncate_wal(self, db: sqlite3.Connection) -> None:
        # SQLite starts the write-ahead log again only at a moment without any read transaction. If
        # there is never such a moment, have SQLite wait for the last old one, while new ones read
        # the file alone. A failure is retried after another commit; this transaction is committed.
        with suppress(OSError, sqlite3.Error):
            if self._wal.stat().st_size > _MAX_WAL_BYTES:
                _truncate(db)

    def empty_wal(self) -> None:
        """Leave nothing in the write-ahead log of what was deleted, unless others read it now."""
        with self.connection() as db, suppress(sqlite3.Error):
            _truncate(db)

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection.

        :raises ServiceUnavailable: the file cannot be used now.
        :raises Misconfigured: the file was never usable, and will not be without help.
        """
        with self._translated_errors():
            connection = self._acquire()
            try:
                yield connection.db
            finally:
                self._release(connection)

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise self._failure(getattr(error, "sqlite_errorname", "SQLITE_CANTOPEN")) from error

    def close(self) -> None:
        """Close all connections; one that is in use is closed when it is released."""
        self._closed = True
        impatient, self._impatient = self._impatient, None
        if impatient:
            impatient.db.close()
        self._close_idle()

    def _close_idle(self) -> None:
        with suppress(IndexError):
            while True:
                self._idle.pop().db.close()

    def _release(self, connection: PooledConnection) -> None:
        # After an error it stays open: to open another one takes space on a disk that may be full.
        if connection.db.in_transaction:
            connection.db.close()
        else:
            self._idle.append(connection)
        if self._closed:
            self._close_idle()

    def _acquire(self) -> PooledConnection:
        """Return a connection to the file that is there now: it may have been replaced."""
        with suppress(IndexError):
            connection = self._idle.pop()
            if connection.file == _identity(self.path):
                return connection
            connection.db.close()
            self._close_idle()
        return self._open()

    def _open(self) -> PooledConnection:
        self._create_private()
        file = _identity(self.path)
        db = sqlite3.connect(
            self.path,
            timeout=_BUSY_TIMEOUT_MS / 1000,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            self._prepare(db)
        except BaseException:
            db.close()
            raise
        self._opened = True
        return PooledConnection(file, db)

    def _create_private(self) -> None:
        # The file holds private events. Only a new file may be opened beside SQLite: closing it
        # drops the locks that this process has on it.
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self._files:
            if found := danger(path):
                raise self._failure(found)
        create_file(self.path)

    def _prepare(self, db: sqlite3.Connection) -> None:
        db.text_factory = _decode
        _set(db, busy_timeout=_BUSY_TIMEOUT_MS)
        if _schema_problem(db) == "empty":
            with exclusive(self.path.parent):
                if _schema_problem(db) == "empty":
                    self._create_schema(db)
        problem = _schema_problem(db)
        if not (problem or self._opened or os.access(self.path, os.W_OK)):
            problem = "SQLITE_READONLY"
        if problem:
            raise self._failure(problem)
        self._restore_wal(db)
        _set(db, synchronous="NORMAL", journal_size_limit=_KEPT_WAL_BYTES, temp_store="MEMORY")
        _set(db, cache_size=-_CACHE_KIB)
        _set(db, secure_delete="ON")  # most builds have it on: what is deleted becomes zeros

    def _restore_wal(self, db: sqlite3.Connection) -> None:
        """Set the file to WAL mode again: a copy that was restored may be in another one."""
        [(mode,)] = db.execute("PRAGMA journal_mode")
        if mode == "wal" or self._without_wal == _identity(self.path):
            return
        with exclusive(self.path.parent):
            try:
                [(mode,)] = db.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorname != "SQLITE_BUSY":
                    raise
        if mode != "wal":
            self._without_wal = _identity(self.path)
            message = "%s stays in journal mode %s, and not WAL, so publishing is slower."
            logger.warning(message, self.path, mode)

    def _create_schema(self, db: sqlite3.Connection) -> None:
        db.execute("PRAGMA journal_mode = WAL")
        with db:
            db.execute("BEGIN IMMEDIATE")
            self._create(db)
            db.execute(f"PRAGMA application_id = {_APPLICATION}")
            db.execute(f"PRAGMA user_version = {_VERSION}")

    def _failure(self, problem: str) -> TidingsError:
        return failure(problem, self._content, None if self._opened else self.path)


def _schema_problem(db: sqlite3.Connection) -> str | None:
    """Return why the file is not an event log of this version: see `failure`, or `empty`."""
    [(application,)] = db.execute("PRAGMA application_id")
    [(version,)] = db.execute("PRAGMA user_version")
    if application == _APPLICATION and version == _VERSION:
        return None
    if application == _APPLICATION:
        return "newer" if version > _VERSION else "older"
    tables = db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
    return "foreign" if tables or application or version else "empty"


def _truncate(db: sqlite3.Connection) -> None:
    _set(db, busy_timeout=_TRUNCATE_TIMEOUT_MS)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    _set(db, busy_timeout=_BUSY_TIMEOUT_MS)


def _set(db: sqlite3.Connection, **pragmas: object) -> None:
    for name, value in pragmas.items():
        db.execute(f"PRAGMA {name} = {value}")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116 - each commit asks, and this takes half the time
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _decode(value: bytes) -> str:
    # A damaged row must not make its whole page unreadable.
    return value.decode(errors="replace")
