"""Whether a reader hung up, seen at once and not only when the next write fails."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import gevent

from ..hub.socket_protocol import MAX_STRAY_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from .connection import ClientConnection


class HangupWatcher:
    """Looks at a reader's socket while its stream is open."""

    __slots__ = ("_connection", "_gone", "_raw", "_room", "_watcher")

    def __init__(self, connection: ClientConnection, gone: Callable[[], None]) -> None:
        self._connection = connection
        self._raw = connection._raw  # noqa: SLF001 - they are one
        self._gone = gone
        self._room = MAX_STRAY_BYTES

    def __enter__(self) -> None:
        self._watcher = gevent.get_hub().loop.io(self._raw.fileno(), 1)
        self._watcher.start(self._readable)

    def __exit__(self, *_: object) -> None:
        self._watcher.stop()
        self._watcher.close()

    def _readable(self) -> None:
        try:
            stray = len(self._raw.recv(MAX_STRAY_BYTES))
        except BlockingIOError:
            return
        except OSError as error:
            stray = 0
            self._connection.stalled = error.errno == errno.ETIMEDOUT
        self._room -= stray
        if not stray or self._room < 0:
            self._watcher.stop()
            self._gone()
