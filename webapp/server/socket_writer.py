"""Sends to a client within the write time-out, and without waiting where the bytes fit."""

from __future__ import annotations

import errno
import fcntl
import socket
import termios
from array import array
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

from ..hub.socket_protocol import never_sends
from .hangup import has_hung_up

if TYPE_CHECKING:
    from ..config.settings import Settings
    from ..hub.socket_protocol import Send

_USER_TIMEOUT_FACTOR = 4  # write time-outs, after which the kernel gives up a silent peer
_SEND_BUFFER_BYTES = 128 << 10  # what the kernel may hold for a subscriber that does not read


class SocketWriter:
    """The half of a client's connection that writes.

    :param sock: the client's socket, of gevent.
    """

    # There may be thousands.
    __slots__ = (
        "_chunked",
        "_held_header",
        "_plain",
        "_raw",
        "_settings",
        "_sock",
        "_waits_to_send",
        "write_timed_out",
    )

    def __init__(self, sock: Any, settings: Settings) -> None:
        self.write_timed_out = False
        self._waits_to_send = False
        self._sock = sock
        self._raw = sock._sock  # noqa: SLF001 - gevent's own send and recv would wait
        self._plain = not hasattr(sock, "cipher")  # below TLS there are only its records
        self._chunked = False
        self._settings = settings
        self._held_header: bytes | None = None
        """A response's header, which is sent with the first bytes of its body. Empty: the next
        write is the header. None: no header is held back.
        """
        self._set_socket_options()

    def _set_socket_options(self) -> None:
        if self._raw.family in {socket.AF_INET, socket.AF_INET6}:
            if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
                # Detect dead peers: heartbeats alone fit into the send buffer for minutes. It is
                # several write time-outs, because the kernel also counts a closed receive window.
                timeout_ms = round(self._settings.write_timeout * _USER_TIMEOUT_FACTOR * 1000)
                self._raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, timeout_ms)
            self._raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)

    def sendall(self, data: bytes | memoryview) -> None:
        """Send all of `data`. Each step must make progress within the write time-out, over which
        the client must read `min_send_rate`.

        :raises BrokenPipeError: it did not, or the client disconnected. gunicorn then closes the
            connection without a log line and without ending the body as if it were complete.
        """
        if self._held_header is not None:
            if not self._held_header:
                self._held_header = bytes(data)
                return
            data, self._held_header = self._held_header + data, None
        try:
            rest = self._send_nowait(data)
            if rest:
                self._waits_to_send = True
                self._send_waiting(memoryview(rest))
                self._waits_to_send = False
        except OSError as error:
            self.write_timed_out = self.write_timed_out or error.errno == errno.ETIMEDOUT
            message = "the client disconnected, or does not read"
            raise BrokenPipeError(errno.EPIPE, message) from None

    send = sendall  # gunicorn sends `100 Continue` with it and does not look at the result

    def nonblocking_send(self) -> tuple[bool, Send, object]:
        """Return whether the body is chunked, what sends what fits without waiting, and to what."""
        # The class's function: a bound method would be one more object for each subscriber.
        return self._chunked, type(self._raw).send if self._plain else never_sends, self._raw

    @property
    def peer_address(self) -> Any:
        """The client's address; None where it has disconnected."""
        try:
            return self._raw.getpeername()
        except OSError:
            return None

    def check_client(self) -> None:
        """Raise an error if the client has disconnected, during the work on its request.

        :raises BrokenPipeError: it has; gunicorn closes the connection without a log line.
        """
        if has_hung_up(self._raw):
            raise BrokenPipeError(errno.EPIPE, "the client disconnected")

    def note_hangup(self, error: int) -> None:
        """See `WatchedConnection`."""
        self.write_timed_out = error == errno.ETIMEDOUT
        if self._waits_to_send:  # for a client that only closed its own side, too
            self.abort()

    def abort(self) -> None:
        """End the connection, also in the middle of a write."""
        self._shutdown(socket.SHUT_RDWR)

    def _shutdown(self, how: int) -> None:
        with suppress(OSError):  # the client had disconnected already
            self._raw.shutdown(how)  # gevent's own would search for a greenlet that waits

    def _send_held_header(self) -> None:
        """Send the header of a response that had no body."""
        header, self._held_header = self._held_header, None
        if header:
            self.sendall(header)

    def _send_nowait(self, data: bytes | memoryview) -> bytes | memoryview:
        """Send what fits into the socket's buffer; return the rest."""
        if not self._plain:
            return data
        try:
            sent: int = self._raw.send(data)
        except BlockingIOError:
            return data
        return memoryview(data)[sent:] if sent < len(data) else b""

    def _send_waiting(self, rest: memoryview) -> None:
        timeout = self._settings.write_timeout
        self._sock.settimeout(timeout)
        unread = self._unread_bytes()
        since, left_then = monotonic(), unread + len(rest)
        while rest:
            try:
                rest = rest[self._send_some(rest) :]
                unread = self._unread_bytes()
            except TimeoutError:
                # The kernel reports room only when there is much: a slow client may have read.
                before, unread = unread, self._unread_bytes()
                if unread >= before:
                    raise _too_slow() from None
            if (seconds := monotonic() - since) >= timeout:
                left = unread + len(rest)
                if left_then - left < seconds * self._settings.min_send_rate:
                    raise _too_slow()
                since, left_then = monotonic(), left

    def _send_some(self, data: memoryview) -> int:
        """Wait until the socket's buffer has room; return how many bytes it took."""
        sent: int = self._sock.send(data)
        return sent

    def _unread_bytes(self) -> int:
        """Return how many of the bytes that were sent the client has not acknowledged yet."""
        return self._count(termios.TIOCOUTQ)

    def received_bytes(self) -> int:
        """Return how many bytes have arrived that were not read."""
        return self._count(termios.FIONREAD)

    def _count(self, what: int) -> int:
        count = array("i", [0])
        try:
            fcntl.ioctl(self._raw.fileno(), what, count)
        except OSError:  # the kernel does not count them for this socket
            return 0
        return count[0]


def _too_slow() -> TimeoutError:
    return TimeoutError(errno.ETIMEDOUT, "the client does not read, or too slowly")
