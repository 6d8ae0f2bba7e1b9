"""Waking the machine's other processes that follow the same log, by Unix datagrams.

Each process has a socket in a folder beside the log. A datagram says nothing but that there is
something to read, and one that is lost costs a little time only: a follower also looks by itself.
"""

from __future__ import annotations

import logging
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import gevent
from gevent import socket

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)


class Bell:
    """One process's bell: others ring it, it rings the others'.

    :param folder: where the bells are; made when it is missing.
    :param heard: called at every ring.
    """

    def __init__(self, folder: Path, heard: Callable[[], None]) -> None:
        self._folder = folder
        self._heard = heard
        self._name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._mouth = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._mouth.settimeout(0)
        self._directory = -1
        try:
            self._hang()
        except OSError as error:
            log.warning("the log's other processes cannot wake this one: %s", error)

    def ring(self) -> None:
        """Wake all others."""
        if self._directory < 0:
            return
        for name in os.listdir(self._directory):  # noqa: PTH208 - it is open
            if name != self._name:
                self._reach(name)

    def close(self) -> None:
        """Take it away."""
        if self._directory < 0:
            return
        self._listener.kill()
        self._ear.close()
        self._mouth.close()
        self._remove(self._name)
        os.close(self._directory)
        self._directory = -1

    def _hang(self) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        directory = os.open(self._folder, os.O_RDONLY)
        # An address has 108 bytes and the folder may lie deep: Linux has a short name for it.
        short = Path(f"/proc/self/fd/{directory}")
        self._address = short if short.exists() else self._folder
        try:
            self._ear.bind(str(self._address / self._name))
        except OSError:
            os.close(directory)
            raise
        self._directory = directory
        self._listener = gevent.spawn(self._listen)

    def _listen(self) -> None:
        while True:
            with suppress(OSError):
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
