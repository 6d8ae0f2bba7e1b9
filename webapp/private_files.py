"""Opens files and folders of the hub's own user safely, where other users may write, too.

It opens nothing through a symbolic link, and does not wait: opening a FIFO would wait until
somebody writes into it.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Literal

_FILE_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK


def open_folder(path: str | Path) -> int:
    """Open a folder of this user, or of the owner of its parent folder; return its descriptor.

    :raises OSError: it is missing, not a folder, a symbolic link, or another user's.
    """
    folder = os.open(path, _FOLDER_FLAGS)
    if not _is_trusted(os.fstat(folder), Path(path).parent.stat()):
        os.close(folder)
        raise PermissionError(errno.EPERM, "It belongs to another user", str(path))
    return folder


def open_file(folder: str, name: str, flags: int) -> int:
    """Open a file of a folder as `open_folder` opens that; return its descriptor.

    :param flags: with `O_CREAT`, only this user may read the file.
    :raises OSError: also if the file is a symbolic link.
    """
    parent = open_folder(folder)
    try:
        return os.open(name, flags | _FILE_FLAGS, 0o600, dir_fd=parent)
    finally:
        os.close(parent)


def replace_file(folder: str, name: str, data: bytes) -> None:
    """Write a file, so that who reads it sees the data before or after, and no mixture.

    :raises OSError: it cannot be written.
    """
    new = f"{name}.new"
    file = os.fdopen(open_file(folder, new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb")
    with file:
        file.write(data)
    Path(folder, new).replace(Path(folder, name))


def create_file(path: Path) -> None:
    """Create an empty file that only this user may read, whatever the umask. One that exists stays
    as it is.

    :raises OSError: its folder cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    try:
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


def danger(path: Path) -> Literal["special", "planted"] | None:
    """Return why a file must not be opened; None: it may be, or it is missing.

    `special` is a FIFO, a device, a socket, a folder, or a link to nothing. `planted` is a link or
    another user's file in a folder that every user may write.
    """
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    is_link = stat.S_ISLNK(status.st_mode)
    if not path.is_file():
        return "special"
    folder = path.parent.stat()
    is_public = folder.st_mode & stat.S_IWOTH
    return "planted" if is_public and (is_link or not _is_trusted(status, folder)) else None


def _is_trusted(status: os.stat_result, folder: os.stat_result) -> bool:
    """Whether it is this user's, or the folder owner's, who can replace it anyway."""
    return status.st_uid in {os.geteuid(), folder.st_uid}
