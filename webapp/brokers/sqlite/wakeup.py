"""Wakes the other processes on this machine after a commit, by Unix datagrams.

Each process has a socket in a folder beside the event log. A datagram says that there is something
to read, how many bytes its sender has yet to read, or that single events come to it. A lost one
costs a little time: followers also look by themselves.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from gevent import socket

from ...private_files import open_folder
from ...tasks import lasting

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

_CLOCK_STEP_NS = 1_000_000_000  # no file system has a coarser clock


class WakeupSocket:
    """The socket of one process: it receives the others' wake-ups, and sends its own to them.

    :param folder: where the sockets of all processes are; created when it is missing.
    :param on_wakeup: called with every datagram.
    """

    def __init__(self, folder: Path, on_wakeup: Callable[[bytes], None]) -> None:
        self._on_wakeup = on_wakeup
        self._name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._resources = ExitStack()
        self._directory = -1
        self._others: list[str] = []  # names of the other sockets
        self._listed_ns = 0  # when the folder had last changed before they were listed
        try:
            self._open(folder)
        except OSError as error:
            logger.warning("other processes cannot wake this one when they publish: %s", error)
            self.close()

    def notify(self, message: bytes = b"!") -> None:
        """Wake all other processes with a datagram of at most 20 bytes."""
        if self._directory < 0:
            return
        with suppress(OSError):  # no descriptor may be free to list them: they look by themselves
            for name in self._list_others():
                self._notify_one(name, message)

    def try_lock(self) -> bool:
        """Lock the folder, unless another process has. Where that is impossible, act as if it was
        done.
        """
        if self._directory < 0:
            return True
        with suppress(OSError):
            try:
                fcntl.flock(self._directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    def unlock(self) -> None:
        """Unlock the folder; closing the socket does so, too."""
        if self._directory >= 0:
            fcntl.flock(self._directory, fcntl.LOCK_UN)

    def close(self) -> None:
        """Remove the socket."""
        self._resources.close()

    def _open(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self._directory = open_folder(folder)
        self._resources.callback(self._remove_own)
        # An address has at most 108 bytes and the folder's path may be longer. Linux has a short
        # name for an open folder.
        short = Path(f"/proc/self/fd/{self._directory}")
        self._address = short if short.exists() else folder
        enter = self._resources.enter_context
        self._receiver = enter(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        self._sender = enter(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        self._sender.settimeout(0)
        self._receiver.bind(str(self._address / self._name))
        self._resources.callback(lasting("wake", self._receive).kill)

    def _remove_own(self) -> None:
        self._remove(self._name)
        os.close(self._directory)
        self._directory = -1

    def _receive(self) -> None:
        while True:
            self._on_wakeup(self._receiver.recv(20))

    def _list_others(self) -> list[str]:
        changed = os.fstat(self._directory).st_mtime_ns
        if changed != self._listed_ns:
            # After a change that is younger than a step of the file system's clock, the next one
            # may have the same time. List the folder again until the change is older.
            self._listed_ns = changed if time.time_ns() - changed > _CLOCK_STEP_NS else 0
            names = os.listdir(self._directory)  # noqa: PTH208 - it is open
            self._others = [name for name in names if name != self._name]
        return self._others

    def _notify_one(self, name: str, message: bytes) -> None:
        try:
            self._sender.sendto(message, str(self._address / name))
        except ConnectionRefusedError:
            self._remove(name)  # its process was killed
        except OSError:
            pass  # its process ended, or so many wake-ups wait for it that it will look anyway

    def _remove(self, name: str) -> None:
        with suppress(OSError):
            os.unlink(name, dir_fd=self._directory)
