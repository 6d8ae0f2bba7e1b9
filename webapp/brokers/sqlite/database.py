"""One SQLite file that the threads of many processes use, and what can go wrong with it.

It is in WAL mode with `synchronous=NORMAL`: what was committed is there for every process of the
machine, whichever of them is killed; only when the machine itself loses its power may the last
moments be missing.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections import deque
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ...errors import Misconfigured, ServiceUnavailable, TidingsError
from ...private_files import fault, make_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

T = TypeVar("T")

_APPLICATION, _VERSION = 0x54494449, 2  # what `PRAGMA application_id` and `user_version` say
_BUSY = 5.0  # seconds to wait for another process's transaction
_WAL_BYTES = 8 << 20  # what is left of the write-ahead log after a burst
_MOST_WAL_BYTES = 64 << 20  # what it may have in one
_ENDINGS = ("-wal", "-shm", "-journal")  # of the files that SQLite makes, with the file's mode
_PAUSE = 1000  # milliseconds that publishers may wait until it is begun anew

_FAILURES = {
    "SQLITE_BUSY": (
        "Another process holds the log locked.",
        "Find the process that has its file open, and end what it does.",
    ),
    "SQLITE_FULL": (
        "The disk that holds the log is full.",
        "Free some space, and lower TIDINGS_HISTORY_BYTES if it fills again.",
    ),
    "SQLITE_READONLY": (
        "The log's file cannot be written.",
        "Give the hub's user the right to write the file and its folder.",
    ),
    "SQLITE_CANTOPEN": (
        "The log's file cannot be opened or created.",
        "Let TIDINGS_BROKER_URL name a file in a folder that the hub's user may write in.",
    ),
    "SQLITE_NOTADB": (
        "The log's file is no SQLite database.",
        "Let TIDINGS_BROKER_URL name another file.",
    ),
    "special": (
        "The log's path names a folder, a FIFO, a device or a link to nothing.",
        "Let TIDINGS_BROKER_URL name a file, or one that does not exist yet.",
    ),
    "planted": (
        "One of the log's files belongs to another user, in a folder that every user may write.",
        "Let TIDINGS_BROKER_URL name a file in a folder that only the hub's user may write.",
    ),
    "newer": (
        "The log's file was written by a newer version of Tidings.",
        "Run that version, or let TIDINGS_BROKER_URL name another file.",
    ),
    "older": (
        "The log's file was written before the first release of Tidings.",
        "Move the file away and start again with a new one.",
    ),
    "foreign": (
        "The log's file is another program's database.",
        "Let TIDINGS_BROKER_URL name another file.",
    ),
    "SQLITE_CORRUPT": (
        "The log's file is damaged.",
        "Stop the hub, move the file away and start again with a new one.",
    ),
}
# These do not pass: a hub that never had its log does not start with them.
_LASTING = set(_FAILURES) - {"SQLITE_BUSY", "SQLITE_FULL"}


class Connection(NamedTuple):
    """A connection, and which file it is to."""

    file: tuple[int, int] | None
    db: sqlite3.Connection


class Database:
    """A file that is made when it is missing; any thread may use it.

    :param path: without symbolic links: SQLite makes its other files beside the real one.
    :param create: makes the tables of a new file.
    """

    def __init__(self, path: Path, create: Callable[[sqlite3.Connection], None]) -> None:
        self.path = path
        self._files = [path.with_name(f"{path.name}{end}") for end in ("", *_ENDINGS)]
        self._wal = self._files[1]
        self._create = create
        self._idle: deque[Connection] = deque()
        self._quick: Connection | None = None
        self._opened = self._closed = False

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Write, and commit at the end; nothing is written where it fails."""
        with self.connection() as db:
            with db:
                db.execute("BEGIN IMMEDIATE")
                yield db
            self._shorten(db)

    def prepare_try_write(self) -> None:
        """Open what `try_write` needs."""
        if self._quick is None and not self._closed:
            with self._told():
                quick = self._open()
                quick.db.execute("PRAGMA busy_timeout = 0")
                quick.db.execute("PRAGMA wal_autocheckpoint = 0")
                self._quick = quick

    def try_write(self, write: Callable[[sqlite3.Connection], T]) -> T | None:
        """Write and commit as `transaction` does, but wait for nobody: neither for a lock nor, by
        moving what is in the write-ahead log, for the disk. To be called by one thread only.

        :returns: None where that is not possible now; nothing is written then.
        """
        quick = self._quick
        if quick is None:
            return None
        try:
            if quick.file == _identity(self.path):
                with quick.db as db:
                    db.execute("BEGIN IMMEDIATE")
                    return write(db)
        except (sqlite3.Error, OSError) as error:
            busy = getattr(error, "sqlite_errorname", "") == "SQLITE_BUSY"
            if busy and not quick.db.in_transaction:
                return None
        self._quick = None
        quick.db.close()
        return None

    def _shorten(self, db: sqlite3.Connection) -> None:
        # SQLite begins the write-ahead log anew only when it finds a moment in which nobody reads.
        # There may be none: then new readers are led past it until the last old one has finished.
        # What fails is done another time: this transaction is committed.
        with suppress(OSError, sqlite3.Error):
            if self._wal.stat().st_size > _MOST_WAL_BYTES:
                db.execute(f"PRAGMA busy_timeout = {_PAUSE}")
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                db.execute(f"PRAGMA busy_timeout = {round(_BUSY * 1000)}")

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection.

        :raises Unavailable: the file cannot be used now.
        :raises Misconfigured: it never could, and will not by itself.
        """
        with self._told():
            connection = self._take()
            try:
                yield connection.db
            finally:
                self._hand_back(connection)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Say what is wrong with the file."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise self._failure(getattr(error, "sqlite_errorname", "SQLITE_CANTOPEN")) from error

    def close(self) -> None:
        """Close what is open; what is in use is closed when it is handed back."""
        self._closed = True
        quick, self._quick = self._quick, None
        if quick:
            quick.db.close()
        self._close_idle()

    def _close_idle(self) -> None:
        with suppress(IndexError):
            while True:
                self._idle.pop().db.close()

    def _hand_back(self, connection: Connection) -> None:
        # It stays open when it fails: to open another takes room on a disk that may have none.
        if connection.db.in_transaction:
            connection.db.close()
        else:
            self._idle.append(connection)
        if self._closed:
            self._close_idle()

    def _take(self) -> Connection:
        """Return a connection to the file that has the name now: it may have been replaced."""
        with suppress(IndexError):
            connection = self._idle.pop()
            if connection.file == _identity(self.path):
                return connection
            connection.db.close()
            self._close_idle()
        return self._open()

    def _open(self) -> Connection:
        self._touch()
        file = _identity(self.path)
        db = sqlite3.connect(
            self.path, timeout=_BUSY, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare(db)
        except BaseException:
            db.close()
            raise
        self._opened = True
        return Connection(file, db)

    def _touch(self) -> None:
        # What is private is in it. Only a new file may be opened beside SQLite: closing it takes
        # away the locks that this process has on it.
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self._files:
            if found := fault(path):
                raise self._failure(found)
        make_file(self.path)

    def _prepare(self, db: sqlite3.Connection) -> None:
        db.text_factory = _text
        if _fault(db) == "empty":
            with _alone(self.path.parent):
                if _fault(db) == "empty":
                    self._begin(db)
        fault = _fault(db)
        if not (fault or self._opened or os.access(self.path, os.W_OK)):
            fault = "SQLITE_READONLY"
        if fault:
            raise self._failure(fault)
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")

    def _begin(self, db: sqlite3.Connection) -> None:
        db.execute("PRAGMA journal_mode = WAL")
        with db:
            db.execute("BEGIN IMMEDIATE")
            self._create(db)
            db.execute(f"PRAGMA application_id = {_APPLICATION}")
            db.execute(f"PRAGMA user_version = {_VERSION}")

    def _failure(self, name: str) -> TidingsError:
        name = "_".join(name.split("_")[:2])  # SQLITE_IOERR_WRITE is one of SQLITE_IOERR
        detail, remedy = _FAILURES.get(name) or (
            f"The log's file cannot be used ({name}).",
            "Look after its disk; the hub goes on as soon as it can.",
        )
        if self._opened or name not in _LASTING:
            return ServiceUnavailable(detail, remedy)
        return Misconfigured(f"{self.path}: {detail}", remedy)


def _fault(db: sqlite3.Connection) -> str | None:
    """Return why the file is not a log of this version."""
    [(application,)] = db.execute("PRAGMA application_id")
    [(version,)] = db.execute("PRAGMA user_version")
    if application == _APPLICATION and version == _VERSION:
        return None
    if application == _APPLICATION:
        return "newer" if version > _VERSION else "older"
    tables = db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
    return "foreign" if tables or application or version else "empty"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes out: two that turn a new file to WAL mode would refuse each other."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116 - each commit asks, and this takes half the time
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _text(value: bytes) -> str:
    # A row that is damaged must not take its page with it.
    return value.decode(errors="replace")
