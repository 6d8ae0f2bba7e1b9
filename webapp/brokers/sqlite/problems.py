"""What can be wrong with an SQLite file, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import Misconfigured, ServiceUnavailable

if TYPE_CHECKING:
    from pathlib import Path

    from ...errors import TidingsError

_PROBLEMS = {
    "SQLITE_BUSY": (
        "Another process has locked the event log.",
        "Find the program that has the file open, and end its transaction.",
    ),
    "SQLITE_FULL": (
        "The disk that holds the event log is full.",
        "Free some space, and lower TIDINGS_HISTORY_BYTES if it fills again.",
    ),
    "SQLITE_READONLY": (
        "The event log's file cannot be written.",
        "Let the hub's user write to the file and its folder.",
    ),
    "SQLITE_CANTOPEN": (
        "The event log's file cannot be opened or created.",
        "Set TIDINGS_BROKER_URL to a file in a folder that the hub's user may write to.",
    ),
    "SQLITE_NOTADB": (
        "The event log's file is not an SQLite database.",
        "Set TIDINGS_BROKER_URL to another file.",
    ),
    "SQLITE_IOERR_SHM": (
        "The event log's file is on a file system without shared memory, which SQLite needs.",
        "Set TIDINGS_BROKER_URL to a file on a disk of this machine, or to a Redis.",
    ),
    "special": (
        "The event log's path names a folder, a FIFO, a device or a link to nothing.",
        "Set TIDINGS_BROKER_URL to the path of a file. The file need not exist.",
    ),
    "planted": (
        "One of the event log's files belongs to another user, in a folder that all may write to.",
        "Set TIDINGS_BROKER_URL to a file in a folder that only the hub's user may write to.",
    ),
    "newer": (
        "The event log's file was written by a newer version of Tidings.",
        "Run that version, or set TIDINGS_BROKER_URL to another file.",
    ),
    "older": (
        "The event log's file was written before the first release of Tidings.",
        "Stop the hub, move the file away, and start the hub again.",
    ),
    "foreign": (
        "The event log's file is another program's database.",
        "Set TIDINGS_BROKER_URL to another file.",
    ),
    "SQLITE_CORRUPT": (
        "The event log's file is damaged.",
        "Stop the hub, move the file away, and start the hub again.",
    ),
}
# Not SQLITE_IOERR_SHMSIZE, which a full disk causes.
_NO_SHARED_MEMORY = {"SQLITE_IOERR_SHMLOCK", "SQLITE_IOERR_SHMMAP", "SQLITE_IOERR_SHMOPEN"}
# These do not pass by themselves: a hub whose event log was never available does not start.
_PERMANENT = set(_PROBLEMS) - {"SQLITE_BUSY", "SQLITE_FULL"}


def failure(problem: str, content: str, new_file: Path | None) -> TidingsError:
    """Return the error for a problem.

    :param problem: an error name of SQLite, a result of `danger`, or one of the schema's problems.
    :param content: what the file stores, such as `event log`.
    :param new_file: the path of a file that was never usable; None: it was.
    """
    if problem in _NO_SHARED_MEMORY:
        problem = "SQLITE_IOERR_SHM"
    else:
        problem = "_".join(problem.split("_")[:2])  # SQLITE_IOERR_WRITE is one of SQLITE_IOERR
    detail, remedy = _PROBLEMS.get(problem) or (
        f"The event log's file cannot be used ({problem}).",
        "Check its disk; the hub continues as soon as it can.",
    )
    detail = detail.replace("event log", content)
    if new_file and problem in _PERMANENT:
        return Misconfigured(f"{new_file}: {detail}", remedy)
    return ServiceUnavailable(detail, remedy)


def no_more_keys() -> ServiceUnavailable:
    """Return the refusal of events after the last position that there can be."""
    detail = "The newest event has the last position that the event log can have."
    remedy = "Stop the hub, move the event log's file away, and start the hub again."
    return ServiceUnavailable(detail, remedy)
