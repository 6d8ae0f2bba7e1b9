"""Waking the machine's other processes that follow the same log, by Unix datagrams.

Each process has a socket in a folder beside the log. A datagram says nothing but that there is
something to read, and one that is lost costs a little time only: a follower also looks by itself.
"""

from __future__ import annotations

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

_COARSE = 1_000_000_000  # nanoseconds


class WakeupSocket:
    """One process's bell: others ring it, it rings the others'.

    :param folder: where the bells are; made when it is missing.
    :param heard: called at every ring.
    """

    def __init__(self, folder: Path, heard: Callable[[], None]) -> None:
        self._heard = heard
        self._name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._hung = ExitStack()
        self._directory = -1
        self._names: list[str] = []  # of the others
        self._seen = 0  # when the folder had changed last before they were listed
        try:
            self._hang(folder)
        except OSError as error:
            logger.warning("other processes cannot tell this one what they publish: %s", error)
            self.close()

    def ring(self) -> None:
        """Wake all others."""
        if self._directory < 0:
            return
        with suppress(OSError):  # no file may be left to look with: they look by themselves
            for name in self._others():
                self._reach(name)

    def _others(self) -> list[str]:
        changed = os.fstat(self._directory).st_mtime_ns
        if changed != self._seen:
            # The clock of files is coarse: what changed just now may change again unseen.
            self._seen = changed if time.time_ns() - changed > _COARSE else 0
            names = os.listdir(self._directory)  # noqa: PTH208 - it is open
            self._names = [name for name in names if name != self._name]
        return self._names

    def close(self) -> None:
        """Take it away."""
        self._hung.close()

    def _hang(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self._directory = open_folder(folder)
        self._hung.callback(self._take_down)
        # An address has 108 bytes and the folder may lie deep: Linux has a short name for it.
        short = Path(f"/proc/self/fd/{self._directory}")
        self._address = short if short.exists() else folder
        self._ear = self._hung.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        self._mouth = self._hung.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        self._mouth.settimeout(0)
        self._ear.bind(str(self._address / self._name))
        self._hung.callback(lasting("wake", self._listen).kill)

    def _take_down(self) -> None:
        self._remove(self._name)
        os.close(self._directory)
        self._directory = -1

    def _listen(self) -> None:
        while True:
            self._ear.recv(1)
            self._heard()

    def _reach(self, name: str) -> None:
        try:
            self._mouth.sendto(b"!", str(self._address / name))
        except ConnectionRefusedError:
            self._remove(name)  # its process was killed
        except OSError:
            pass  # it has left, or so many wait for it that it wakes anyhow

    def _remove(self, name: str) -> None:
        with suppress(OSError):
            os.unlink(name, dir_fd=self._directory)
