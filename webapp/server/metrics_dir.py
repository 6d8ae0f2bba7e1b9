"""The folder of the workers' metrics: made by gunicorn's master, in memory where that is possible.

The master must not import the library that reads them: it imports ssl, which gevent must patch
first, in each worker.

A lock says that a folder is in use, and not a process id in its name: another container that
shares `/dev/shm` has other process ids, and a process id is used again after its process has ended.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..monitoring.metrics_folder import VARIABLE, subscribers_file
from ..private_files import open_folder
from .temporary_folder import MEMORY

if TYPE_CHECKING:
    from collections.abc import Iterable

_PREFIX = "tidings-metrics-"
_NEEDED_BYTES = 16 << 20  # for about a hundred workers


def create() -> None:
    """Make a new folder, and remove those of masters that were killed.

    :raises OSError: no folder can be made.
    """
    base = MEMORY if _has_room(MEMORY) else Path(tempfile.gettempdir())
    for old in base.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # another user's, or in use
            lock = _lock(old)
            try:
                shutil.rmtree(old)
            finally:
                os.close(lock)
    os.environ[VARIABLE] = _create_locked(base)


def _create_locked(base: Path) -> str:
    while True:
        folder = tempfile.mkdtemp(prefix=_PREFIX, dir=base)
        # A hub that starts at the same time may have taken it for an old one.
        with suppress(FileNotFoundError, BlockingIOError):
            _lock(folder)
            Path(folder).stat()
            return folder


def ensure() -> None:
    """Make the folder again if somebody removed it, and lock it while this worker lives.

    :raises OSError: another user has made one of its name meanwhile.
    """
    folder = Path(os.environ[VARIABLE])
    while True:
        folder.mkdir(0o700, exist_ok=True)
        with suppress(FileNotFoundError):
            with suppress(BlockingIOError):  # the master has locked it, as nearly always
                _lock(folder, fcntl.LOCK_SH)
            folder.stat()
            return


def share(number: int | None, log: Any) -> None:
    """Write this worker's metrics where all workers read them; if that fails, to its memory.

    :param number: the worker's. None: its metrics are those of its process.
    """
    try:
        ensure()
    except OSError as error:
        log.warning("This worker's metrics are not shared: %s", error)
        leave()
        return
    if number is not None:
        # Not before: the library looks for the directory when it is imported.
        from ..monitoring.metrics import set_worker_id

        set_worker_id(number)


def leave() -> None:
    """Let this process keep its metrics in its own memory."""
    del os.environ[VARIABLE]


def next_worker_id(taken: Iterable[int | None]) -> int:
    """Return the lowest number that no worker has."""
    numbers = set(taken)
    return next(number for number in count() if number not in numbers)


def discard_worker(number: int, pid: int) -> None:
    """Remove the gauges of a worker that ended, and the file of its subscribers."""
    Path(os.environ[VARIABLE], subscribers_file(pid)).unlink(missing_ok=True)
    for path in Path(os.environ[VARIABLE]).glob(f"gauge_live*_{number}.db"):
        path.unlink(missing_ok=True)


def remove() -> None:
    """Remove the folder."""
    shutil.rmtree(os.environ[VARIABLE], ignore_errors=True)


def _has_room(base: Path) -> bool:
    # The files are mapped into memory: a page for which there is no room kills the process.
    return os.access(base, os.W_OK | os.X_OK) and shutil.disk_usage(base).free > _NEEDED_BYTES


def _lock(folder: str | Path, how: int = fcntl.LOCK_EX) -> int:
    """Lock a folder until this process, and those that it forks, have ended; or until the
    descriptor that is returned is closed.

    :raises OSError: another process has locked it, or it is not a folder of this user.
    """
    descriptor = open_folder(folder)
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
