"""Notices at once that a client hung up, and not only when the next write fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gevent

from ..hub.socket_protocol import MAX_STRAY_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable


class HangupWatcher:
    """Watches a socket, in a `with`. What arrives there is thrown away.

    :param sock: the socket below gevent's own, which does not wait.
    :param on_hangup: called once, with the socket's errno, or 0 where the client closed its side
        or sent more than `MAX_STRAY_BYTES`.
    """

    __slots__ = ("_on_hangup", "_sock", "_stray_budget", "_watcher")

    def __init__(self, sock: Any, on_hangup: Callable[[int], None]) -> None:
        self._sock = sock
        self._on_hangup = on_hangup
        self._stray_budget = MAX_STRAY_BYTES

    def __enter__(self) -> None:
        self._watcher = gevent.get_hub().loop.io(self._sock.fileno(), 1)
        self._watcher.start(self._on_readable)

    def __exit__(self, *_: object) -> None:
        self._watcher.stop()
        self._watcher.close()

    def _on_readable(self) -> None:
        error = 0
        try:
            stray = len(self._sock.recv(MAX_STRAY_BYTES))
        except BlockingIOError:
            return
        except OSError as failure:
            stray, error = 0, failure.errno or 0
        self._stray_budget -= stray
        if not stray or self._stray_budget < 0:
            self._watcher.stop()
            self._on_hangup(error)
