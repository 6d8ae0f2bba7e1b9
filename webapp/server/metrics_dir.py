"""Where the workers put their numbers: a directory of the master's, in memory where that can be.

The master must not import what reads them (it imports ssl, before gevent patches it in a worker).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from ..private_files import open_folder

if TYPE_CHECKING:
    from collections.abc import Iterable

DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"  # prometheus-client's
_PREFIX = "tidings-metrics-"
_ROOM = 16 << 20  # bytes, for some hundred workers
_MEMORY = Path("/dev/shm")  # noqa: S108 - a directory of our own is made in it


def create() -> None:
    """Make a fresh directory, and remove those of masters that were killed.

    :raises OSError: there is no place for it.
    """
    base = _MEMORY if _has_room(_MEMORY) else Path(tempfile.gettempdir())
    for old in base.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # another user's, or one in use
            held = _lock(old)
            try:
                shutil.rmtree(old)
            finally:
                os.close(held)
    os.environ[DIRECTORY] = _fresh(base)


def _fresh(base: Path) -> str:
    while True:
        directory = tempfile.mkdtemp(prefix=_PREFIX, dir=base)
        # One that begins at the same time may have taken it for an old one.
        with suppress(FileNotFoundError, BlockingIOError):
            _lock(directory)
            Path(directory).stat()
            return directory


def ensure() -> None:
    """Make the directory anew where somebody removed it, and hold it while this worker lives.

    :raises OSError: another user has made one of its name meanwhile.
    """
    directory = Path(os.environ[DIRECTORY])
    while True:
        directory.mkdir(0o700, exist_ok=True)
        with suppress(FileNotFoundError):
            with suppress(BlockingIOError):  # the master does, as nearly always
                _lock(directory, fcntl.LOCK_SH)
            directory.stat()
            return


def leave() -> None:
    """Let this process have numbers of its own, in its own memory."""
    del os.environ[DIRECTORY]


def _has_room(base: Path) -> bool:
    # A page of a mapped file that cannot be had kills the process.
    return os.access(base, os.W_OK | os.X_OK) and shutil.disk_usage(base).free > _ROOM


def _lock(directory: str | Path, how: int = fcntl.LOCK_EX) -> int:
    """Hold a directory for as long as this process or one that it forks lives.

    :raises OSError: somebody holds it, or it is not a directory of this user.
    """
    held = open_folder(directory)
    try:
        fcntl.flock(held, how | fcntl.LOCK_NB)
    except OSError:
        os.close(held)
        raise
    return held


def next_worker_id(taken: Iterable[int | None]) -> int:
    """Return the lowest number that no worker has."""
    numbers = set(taken)
    return next(number for number in count() if number not in numbers)


def discard_worker(number: int) -> None:
    """Remove what a worker that is gone was doing."""
    for path in Path(os.environ[DIRECTORY]).glob(f"gauge_live*_{number}.db"):
        path.unlink(missing_ok=True)


def remove() -> None:
    """Remove the directory."""
    shutil.rmtree(os.environ[DIRECTORY], ignore_errors=True)
