"""A disk of a few megabytes, which only the processes that are started with its prefix see."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

from support.programs import need
from support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOUNT = """
mount -t tmpfs -o size="$1",uid="$2",mode=700 disk "$0" && echo mounted && exec sleep infinity
"""


class SmallDisk:
    """A disk in memory.

    :param folder: where its processes see it.
    :param process: one that sees it.
    """

    def __init__(self, folder: str, process: int) -> None:
        self.folder = folder
        self.prefix = ["nsenter", "--mount", "--target", str(process)]
        """Begins the command of a process that is to see the disk."""
        self._ballast = Path(f"/proc/{process}/root{folder}/ballast")

    def fill(self, *, except_bytes: int) -> None:
        """Take all room but a few bytes."""
        state = os.statvfs(self._ballast.parent)
        with self._ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, state.f_bavail * state.f_bsize - except_bytes)

    def empty(self) -> None:
        """Give the room back."""
        self._ballast.unlink()


@contextmanager
def small_disk(size: int, owner: str) -> Iterator[SmallDisk]:
    """Mount a disk, in a mount namespace of its own.

    :param size: in bytes.
    :param owner: the user who may write to it.
    """
    if need("unshare") and os.geteuid() != 0:
        pytest.skip("only root can mount")
    with TemporaryDirectory(prefix="tidings-disk-") as folder:
        Path(folder).chmod(0o755)
        command = ["unshare", "--mount", "sh", "-c", _MOUNT, folder, str(size), owner]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout
                assert process.stdout.readline() == b"mounted\n"
                yield SmallDisk(folder, process.pid)
            finally:
                process.kill()
                process.wait(PATIENCE)
