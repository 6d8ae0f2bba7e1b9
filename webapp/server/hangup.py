"""Notices at once that a client hung up, and not only when the next write fails."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Any, Protocol

from gevent.monkey import get_original

from ..hub.socket_protocol import MAX_STRAY_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

_new_poll = get_original("select", "poll")  # gevent's own would wait
_HANGUP = getattr(select, "POLLRDHUP", select.POLLHUP)  # Linux also says that one side is closed


class WatchedConnection(Protocol):
    """What a connection is informed about while it is watched."""

    def read_no_more(self) -> None:
        """Close after this response. Bytes were thrown away, which may have begun a request."""

    def note_hangup(self, error: int) -> None:
        """Note that the client hung up; end a write that waits for it.

        :param error: the socket's errno, or 0 where the client closed its side.
        """


class HangupWatcher:
    """Watches a connection, in a `with`. What arrives there is thrown away.

    :param sock: its socket, of gevent. Nothing may read from it meanwhile.
    :param on_hangup: called once, when the client closes its side or has sent more than
        `MAX_STRAY_BYTES`.
    """

    # There may be thousands.
    __slots__ = ("_connection", "_on_hangup", "_sock", "_stray_budget")

    def __init__(
        self, connection: WatchedConnection, sock: Any, on_hangup: Callable[[], None]
    ) -> None:
        self._connection = connection
        self._sock = sock
        self._on_hangup = on_hangup
        self._stray_budget = MAX_STRAY_BYTES

    def __enter__(self) -> None:
        # The watcher with which gevent waits for bytes: another one would take 120 bytes.
        self._sock._read_event.start(self._on_readable)  # noqa: SLF001 - see above

    def __exit__(self, *_: object) -> None:
        self._sock._read_event.stop()  # noqa: SLF001 - see `__enter__`

    def _on_readable(self) -> None:
        error = 0
        try:
            stray = len(self._sock._sock.recv(MAX_STRAY_BYTES))  # noqa: SLF001 - gevent's own would wait
        except BlockingIOError:
            return
        except OSError as failure:
            stray, error = 0, failure.errno or 0
        self._connection.read_no_more()
        self._stray_budget -= stray
        if not stray or self._stray_budget < 0:
            self.__exit__()
            self._connection.note_hangup(error)
            self._on_hangup()


def has_hung_up(sock: Any) -> bool:
    """Return whether a client has closed its side, without reading what it sent before.

    :param sock: a socket that is open.
    """
    poll = _new_poll()
    poll.register(sock, _HANGUP)
    return bool(poll.poll(0))
