"""A client's socket as gunicorn uses it, with time-outs, and told when the worker stops.

gunicorn's own gevent worker lets a client that does not read block for ever, takes a slow header
for a patient keep-alive, and hears of a client that left only when the next write fails.
"""

from __future__ import annotations

import logging
import socket
import time
from typing import TYPE_CHECKING, Any

from gunicorn import util
from gunicorn.http.body import ChunkedReader

from ..errors import RequestTimeout, ServiceUnavailable
from ..scheduling import yield_to_loop
from .hangup import HangupWatcher
from .socket_writer import Output

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..config.settings import Settings

logger = logging.getLogger(__name__)

_VANISHED = 4  # write time-outs, after which the system gives up a peer that is silent
_DRIPPING = 10  # body time-outs that a body may take in all; a pipe may take for ever
_SLICE = 0.002  # seconds that a client which sends without a pause keeps the loop
_LOOK_EVERY_S = 2  # whether the token of a silent pipe is still good
_SEND_BUFFER = 128 << 10  # what the kernel may hold for a reader that does not read


class ClientConnection(Output):
    """A client's socket as gunicorn's parser and response use it, with our time-outs.

    It is `waiting` for a request, then reads its head within the header time-out, then its body
    with the body time-out between bytes, then answers with the write time-out for each step.

    :param waiters: to note this connection in while it waits for its client to say something, the
        one that waits longest first.
    :param pipes: the same for a pipe that waits for its next line.
    """

    # There may be thousands.
    __slots__ = (
        "_body",
        "_check",
        "_deadline",
        "_deaf",
        "_finishing",
        "_live",
        "_pipes",
        "_request",
        "_turn",
        "_waiters",
        "_waiting",
        "evicted",
        "late",
        "linger",
        "trusted",
    )

    def __init__(
        self,
        sock: Any,
        settings: Settings,
        waiters: dict[ClientConnection, None] | None = None,
        pipes: dict[ClientConnection, None] | None = None,
    ) -> None:
        super().__init__(sock, settings)
        self.trusted: bool | None = None  # as a proxy; None: nobody has asked yet
        self.late = ""  # which time-out ended it without an answer that says so
        self.evicted = False
        self._waiters = {} if waiters is None else waiters
        self._pipes = {} if pipes is None else pipes
        self._check: Callable[[], object] = bool
        self.linger = False
        self._waiting = True
        self._live = False
        self._deaf = False
        self._turn = time.monotonic()
        self._request: Any = None
        self._finishing = False
        self._body = False
        self._deadline = self._turn + settings.header_timeout
        if self._raw.family in {socket.AF_INET, socket.AF_INET6}:
            if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
                # A peer that vanished without a word: heartbeats fit its buffer for minutes. The
                # system counts a window that stays small as silence, so it is not the first.
                patience = round(settings.write_timeout * 1000 * _VANISHED)
                self._raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, patience)
            self._raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    # gunicorn asks for these at each request, and __getattr__ is only asked when all else failed.

    def gettimeout(self) -> float | None:
        """Return the socket's time-out."""
        found: float | None = self._sock.gettimeout()
        return found

    def settimeout(self, seconds: float | None) -> None:
        """Set the socket's time-out."""
        self._sock.settimeout(seconds)

    def begin_request(self) -> None:
        """The last answer is out; gunicorn's keepalive bounds the wait for the next request."""
        head, self._head = self._head, None
        if head:
            self.sendall(head)  # an answer without a body
        self._waiting, self._body, self._live = True, False, False
        self._check = bool
        self._request = None  # it knows this connection: no cycle for the collector
        self._deadline = float("inf")

    def begin_body(self, request: Any) -> None:
        """The head is complete."""
        self._waiting, self._body, self._request = False, True, request
        self._deadline = time.monotonic() + self._settings.body_timeout * _DRIPPING
        self._chunked = request.version > (1, 0)

    def settle(self) -> None:
        """An answer begins: what of the body was not read by now is no next request, and the
        answer's head waits for its body.
        """
        reader = self._request.body.reader
        chunked = isinstance(reader, ChunkedReader)
        if reader.parser is not None if chunked else reader.length:
            self.linger = True
            self._request.force_close()
        if self._plain:
            self._head = b""  # the next write, which goes out with the one after it

    def recv(self, size: int) -> bytes:
        """Receive some bytes; none means that the client is gone, or too slow with its head.

        :raises TimedOut: the body stopped arriving.
        :raises Unavailable: others need the connection of a pipe.
        :raises TidingsError: the client may not go on with its pipe.
        """
        if self._deaf or (self._finishing and (self._waiting or self._live)):
            return b""
        try:
            data = self._receive(size)
        except TimeoutError:
            self._deaf = True  # what comes late is not taken for a beginning
            if self._live or not self._body:
                self.late = "pipe_idle" if self._live else "header_timeout"
                self._finishing = self._live  # it is answered with its count
                return b""
            detail = "The body stopped arriving."
            raise RequestTimeout(detail, "Send it faster, or raise TIDINGS_BODY_TIMEOUT.") from None
        except OSError:
            return b""
        if self.evicted:
            detail = "The hub has no files left, and this pipe was silent for the longest time."
            remedy = "Send what follows the last published line through a new one."
            raise ServiceUnavailable(detail, remedy, reason="connections")
        if self._waiting and data:
            self._waiting = False
            self._deadline = time.monotonic() + self._settings.header_timeout
        return b"" if self._finishing and self._live else data

    def _receive(self, size: int) -> bytes:
        if self._plain:
            try:
                data: bytes = self._raw.recv(size)
            except BlockingIOError:
                pass  # it is going to wait, and others have their turn
            else:
                # A client that sends without a pause never waits.
                if time.monotonic() - self._turn > _SLICE:
                    yield_to_loop()
                    self._turn = time.monotonic()
                return data
        waiting = self._pipes if self._live else self._waiters
        waiting[self] = None
        try:
            data = self._await_line(size) if self._live else self._await_bytes(size)
        finally:
            waiting.pop(self, None)
        self._turn = time.monotonic()
        return data

    def _await_bytes(self, size: int) -> bytes:
        self._sock.settimeout(self._patience())
        data: bytes = self._sock.recv(size)
        return data

    def _await_line(self, size: int) -> bytes:
        """Wait for what a pipe brings next, and look now and then whether its client still may."""
        until = time.monotonic() + self._settings.pipe_idle
        while (left := until - time.monotonic()) > _LOOK_EVERY_S:
            self._sock.settimeout(_LOOK_EVERY_S)
            try:
                data: bytes = self._sock.recv(size)
            except TimeoutError:
                self._check()
            else:
                return data
        self._sock.settimeout(max(left, 0.001))
        data = self._sock.recv(size)
        return data  # noqa: RET504 - gevent's socket says no type

    def close(self) -> None:
        """Close; let the client read the answer first where it may still be sending."""
        if self.linger and not self.evicted:  # who was evicted was silent, and its file is needed
            util.close_graceful(self._sock, timeout=1.0)
        else:
            self._sock.close()

    def watched(self, gone: Callable[[], None]) -> HangupWatcher:
        """Call `gone` once the client hangs up, half or whole, or sends more than a few bytes."""
        # What comes is thrown away, and may have been part of a request.
        self._deaf = True
        return HangupWatcher(self, gone)

    def answer_last(self) -> None:
        """Close after this answer, and say so: what the client sent meanwhile was thrown away."""
        self.linger = True
        self._request.force_close()

    def live(self, check: Callable[[], object] = bool) -> None:
        """The body is a pipe that may be quiet for hours and ends when the hub stops.

        :param check: asked while it is quiet; what it raises ends the pipe and is its answer.
        """
        self._live = True
        self._check = check

    def evict(self) -> None:
        """End a pipe that waits for its next line, with an answer: others need its file."""
        self.evicted = True
        self._shutdown(socket.SHUT_RD)

    def finish(self) -> None:
        """The worker stops: end what would wait for more, an idle wait or a live pipe."""
        self._finishing = True
        if self._waiting or self._live:
            self._shutdown(socket.SHUT_RD)

    @property
    def finishing(self) -> bool:
        """Whether a live pipe was ended by the hub and not by its client."""
        return self._finishing and self._live

    def abort(self) -> None:
        """End whatever goes on, in the middle of a write too."""
        self._shutdown(socket.SHUT_RDWR)

    def _shutdown(self, how: int) -> None:
        try:
            self._sock.shutdown(how)
        except OSError:
            logger.debug("the client was gone already")

    def _patience(self) -> float | None:
        left = max(self._deadline - time.monotonic(), 0.001)
        if self._body:
            return min(self._settings.body_timeout, left)
        return None if left == float("inf") else left
