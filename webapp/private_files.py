"""Files and folders of the hub's own user, in places where other users may have put traps.

Opening never follows a symbolic link and never waits: a FIFO would hold its opener until somebody
writes into it.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK


def open_folder(path: str | Path) -> int:
    """Open a folder of this user, or of who owns the one around it; return its descriptor.

    :raises OSError: it is missing, not a folder, a symbolic link, or another user's.
    """
    folder = os.open(path, _FOLDER)
    if not _trusted(os.fstat(folder), Path(path).parent.stat()):
        os.close(folder)
        raise PermissionError(errno.EPERM, "It belongs to another user", str(path))
    return folder


def make_file(path: Path) -> None:
    """Make an empty file that only this user may read, whatever the umask; one that exists stays.

    :raises OSError: its folder cannot be written.
    """
    try:
        made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    try:
        os.fchmod(made, 0o600)
    finally:
        os.close(made)


def fault(path: Path) -> str | None:
    """Return why a file may not be used, `special` or `planted`; None: it may, or is missing.

    A special file is a FIFO, a device, a socket, a folder, or a link to nothing. In a folder that
    every user may write, another user's file, or a link, was planted.
    """
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    link = stat.S_ISLNK(status.st_mode)
    if not path.is_file():
        return "special"
    folder = path.parent.stat()
    public = folder.st_mode & stat.S_IWOTH
    return "planted" if public and (link or not _trusted(status, folder)) else None


def _trusted(status: os.stat_result, folder: os.stat_result) -> bool:
    """Whether it is this user's; the owner of the folder around it could do anything anyway."""
    return status.st_uid in {os.geteuid(), folder.st_uid}
