"""What is sent to a client: within the write time-out, and without waiting where it fits."""

from __future__ import annotations

import errno
import fcntl
import termios
from array import array
from time import monotonic
from typing import TYPE_CHECKING, Any

from ..hub.socket_protocol import never_sends

if TYPE_CHECKING:
    from ..config.settings import Settings
    from ..hub.socket_protocol import Send


class Output:
    """The half of a client's connection that writes.

    :param sock: the client's socket, as gevent has it.
    """

    # There may be thousands.
    __slots__ = ("_chunked", "_head", "_plain", "_raw", "_settings", "_sock", "stalled")

    def __init__(self, sock: Any, settings: Settings) -> None:
        self.stalled = False
        self._sock = sock
        self._raw = sock._sock  # noqa: SLF001 - gevent's own send and recv would wait
        self._plain = not hasattr(sock, "cipher")  # below TLS there are only its records
        self._chunked = False
        self._settings = settings
        self._head: bytes | None = None

    def sendall(self, data: bytes | memoryview) -> None:
        """Send all of `data`; each step must make progress within the write time-out, over which
        the client must take `min_send_rate`.

        :raises BrokenPipeError: it did not, or the client is gone. gunicorn then closes the
            connection without a word and without a false end of the body.
        """
        if self._head is not None:
            if not self._head:
                self._head = bytes(data)
                return
            data, self._head = self._head + data, None
        try:
            rest = self._fitting(data)
            if rest:
                self._send_slowly(memoryview(rest))
        except OSError as error:
            self.stalled = self.stalled or error.errno == errno.ETIMEDOUT
            raise BrokenPipeError(errno.EPIPE, "the client is gone, or does not read") from None

    def _send_slowly(self, rest: memoryview) -> None:
        patience = self._settings.write_timeout
        self._sock.settimeout(patience)
        unread = self._unread()
        since, waiting = monotonic(), unread + len(rest)
        while rest:
            try:
                rest = rest[self._sock.send(rest) :]
                unread = self._unread()
            except TimeoutError:
                # The system tells of room only when there is much: a slow reader may have read.
                before, unread = unread, self._unread()
                if unread >= before:
                    raise _stalled() from None
            if (seconds := monotonic() - since) >= patience:
                left = unread + len(rest)
                if waiting - left < seconds * self._settings.min_send_rate:
                    raise _stalled()
                since, waiting = monotonic(), left

    def _unread(self) -> int:
        """Return how many bytes the client has not taken yet."""
        count = array("i", [0])
        try:
            fcntl.ioctl(self._raw.fileno(), termios.TIOCOUTQ, count)
        except OSError:  # it cannot tell: then room is the only sign of progress
            return 0
        return count[0]

    send = sendall  # gunicorn sends `100 Continue` with it and does not look at the answer

    def direct(self) -> tuple[bool, Send, object]:
        """Return whether the body is chunked, what sends what fits without waiting, and to what."""
        # Of the class: a method of each socket would be one more object for each reader.
        return self._chunked, type(self._raw).send if self._plain else never_sends, self._raw

    def _fitting(self, data: bytes | memoryview) -> bytes | memoryview:
        """Send what fits; return the rest."""
        if not self._plain:
            return data
        try:
            sent: int = self._raw.send(data)
        except BlockingIOError:
            return data
        return memoryview(data)[sent:] if sent < len(data) else b""


def _stalled() -> TimeoutError:
    return TimeoutError(errno.ETIMEDOUT, "the client does not read, or too slowly")
