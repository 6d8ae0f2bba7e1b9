"""A client's connection, as gunicorn's parser and response use it, with the hub's time-outs.

gunicorn's own gevent worker waits without end for a client that does not read, mistakes a slow
header for an idle keep-alive, and notices only at the next write that a client disconnected.
"""

from __future__ import annotations

import socket
from time import monotonic
from typing import TYPE_CHECKING, Any

from gunicorn import util
from gunicorn.http.body import ChunkedReader

from ..scheduling import yield_to_loop
from . import body_ends
from .arrivals import arrivals
from .hangup import HangupWatcher
from .phase import BODY, CLOSING, HEADER, IDLE, OPENED, STREAM, STREAMING_BODY
from .socket_writer import SocketWriter
from .timed_receive import receive

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..config.settings import Settings
    from ..hub.socket_protocol import Keeper
    from .phase import Phase
    from .waiters import Waiters

_READ_SLICE_S = 0.002  # a client that sends without a pause yields to the loop after it
_CHECK_INTERVAL_S = 2  # between two checks of a silent pipe's token
_BODY_TIMEOUTS = 10  # body time-outs in which all of a body must arrive
_AFTER_STREAM_S = 1.0  # for a next request: some clients reconnect once the connection is closed
_CLOSE_TIMEOUT_S = 1.0  # for the client to read its response before the connection is closed


class ClientConnection(SocketWriter):
    """A client's socket, from its first byte until it is closed.

    :param keepalive_s: seconds for which it may wait for its client's next request.
    :param waiters: holds this connection while it waits for its client.
    """

    __slots__ = (
        "_check",
        "_evicted",
        "_keepalive_s",
        "_last_yield",
        "_linger",
        "_phase",
        "_phase_began",
        "_stopping",
        "_waiters",
        "_waits_among",
        "is_counted",
        "is_stream",
        "listener",
        "parked",
        "pipelined",
        "request",
        "timeout_reason",
        "wakeup",
    )

    def __init__(
        self,
        sock: Any,
        settings: Settings,
        keepalive_s: float,
        waiters: Waiters[ClientConnection],
    ) -> None:
        super().__init__(sock, settings)
        self.timeout_reason = ""
        """Which time-out ended it without a response that says so; empty: none."""
        self.listener: Any = None
        self.is_counted = self.is_stream = False
        self.parked = False
        """Whether its stream goes on in another greenlet: this one must not close it."""
        self.wakeup: Keeper | None = None
        self.pipelined = b""
        self._keepalive_s = keepalive_s
        self._waiters, self._waits_among = waiters, waiters.new
        self._check: Callable[[], object] = bool
        self.request: Any = None  # gunicorn's; None between two, and while a stream is parked
        self._linger = self._evicted = self._stopping = False
        self._last_yield = monotonic()
        self._phase = OPENED
        self._phase_began = self._last_yield

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    # The phases

    def begin_request(self) -> None:
        """The last response is sent. A part of the next request may have arrived with the last."""
        self._send_held_header()
        self._waits_among = self._waiters.served
        begun = self.pipelined or (self.request and self.request.unreader.buf.getvalue())
        self._enter(HEADER if begun else IDLE)
        self._check = bool
        self.request = None  # it has a reference to this connection: no cycle for the collector

    def begin_body(self, request: Any) -> None:
        """The header is complete."""
        self._enter(BODY)
        self.request = request
        self._chunked = request.version > (1, 0)

    def mark_streaming(self, check: Callable[[], object] = bool) -> None:
        """The body is a pipe.

        :param check: called now and then while the pipe is silent; what it raises ends the pipe
            and is its response.
        """
        self._enter(STREAMING_BODY)
        self._check = check

    def begin_response(self, *, is_stream: bool) -> None:
        """The response begins. If the request's body was not read to its end, the connection is
        closed afterwards, because what is left of the body must not be parsed as a request.
        """
        self.is_stream = is_stream
        reader = self.request.body.reader
        is_read = reader.parser is None if isinstance(reader, ChunkedReader) else not reader.length
        if not is_read:
            self.answer_last()
        if self._plain and not is_stream:
            self._held_header = b""

    def answer_last(self) -> None:
        """Close after this response, which says so."""
        self._linger = True
        self.request.force_close()

    def send_last(self, response: bytes) -> None:
        """Send a whole response to what was no request, after which gunicorn closes.

        :raises BrokenPipeError: the client disconnected.
        """
        self._linger = True
        self.sendall(response)

    def on_hangup(self, hung_up: Callable[[], None]) -> HangupWatcher:
        """Call `hung_up` once the client closes its side, or sends more than a few bytes."""
        self._enter(STREAM)
        return HangupWatcher(self, self._sock, hung_up)

    def read_no_more(self) -> None:
        """See `WatchedConnection`."""
        self._enter(CLOSING)

    def stop_reading(self) -> None:
        """End a wait for a next request, and a pipe: the worker stops. A request that has begun
        is served; one whose header arrives at this moment, but not its body, is refused.
        """
        self._stopping = True
        if self._ends_now():
            self._shutdown(socket.SHUT_RD)

    def _ends_now(self) -> bool:
        """Return whether no more is read, as the worker stops. Bytes that arrived are a request."""
        if not (self._stopping and self._phase.ends_at_stop):
            return False
        return not (self._phase.between_requests and self.received_bytes())

    def evict(self) -> None:
        """End a pipe that waits for its next line with a response: its file is needed."""
        self._evicted = True
        self._shutdown(socket.SHUT_RD)

    def close(self) -> None:
        """Close, unless it is parked. A client that is still sending reads the response first."""
        if self.parked:
            return
        if self._linger and not self._evicted:  # the client of an evicted pipe sends nothing
            self._waits_among[self] = None
            try:
                util.close_graceful(self._sock, timeout=_CLOSE_TIMEOUT_S)
            finally:
                self._waits_among.pop(self, None)
        else:
            self._sock.close()

    def _enter(self, phase: Phase) -> None:
        if self._phase is not CLOSING:
            self._phase = phase
            self._phase_began = monotonic()

    # Writing

    def _send_some(self, data: memoryview) -> int:
        if self.is_stream:
            return super()._send_some(data)
        self._waits_among[self] = None
        try:
            return super()._send_some(data)
        finally:
            self._waits_among.pop(self, None)

    # Reading

    def unread(self, data: bytes) -> None:
        """Let bytes that were received already be received again."""
        self.pipelined = data

    def recv(self, size: int) -> bytes:
        """Receive some bytes; none: the client disconnected, its header took too long, or no more
        is read.

        :raises RequestTimeout: the body stopped arriving.
        :raises ServiceUnavailable: the hub stops, or the file of this pipe is needed.
        :raises TidingsError: the client may not continue its pipe.
        """
        if self.pipelined:
            data, self.pipelined = self.pipelined, b""
            return data
        if self._stopping or self._evicted:
            self._check_body()
        if (phase := self._phase) is CLOSING or self._ends_now():
            return b""
        try:
            data = self._receive(size)
        except TimeoutError:
            return self._on_timeout()
        except OSError:  # gevent also raises it in a wait that `_shutdown` ends
            data = b""
        if self._stopping or self._evicted:
            self._check_body(data)
        if data and phase.between_requests:
            self._enter(HEADER)
        return data

    def _check_body(self, data: bytes | None = None) -> None:
        """Raise why the hub ends this body, if it does; its response is an error."""
        if self._evicted:
            raise body_ends.no_files_left()
        if self._stopping and self._phase is STREAMING_BODY:
            raise body_ends.pipe_stopped()
        if self._stopping and self._phase is BODY and data == b"":  # see `stop_reading`
            raise body_ends.body_stopped()

    def _on_timeout(self) -> bytes:
        if self._phase is STREAMING_BODY:
            raise body_ends.pipe_idle() from None
        phase, self._phase = self._phase, CLOSING  # late bytes must not begin a request
        if phase is BODY:
            raise body_ends.body_timeout() from None
        if phase is not IDLE:
            self.timeout_reason = "header_timeout"
        return b""

    def _receive(self, size: int) -> bytes:
        if self._plain:
            try:
                data: bytes = self._raw.recv(size)
            except BlockingIOError:
                pass  # the wait below yields to the loop
            else:
                # The bytes of a client that sends without a pause are always there.
                if monotonic() - self._last_yield > _READ_SLICE_S:
                    yield_to_loop()
                    self._last_yield = monotonic()
                return data
        is_pipe = self._phase is STREAMING_BODY
        waiting = self._waiters.pipes if is_pipe else self._waits_among
        waiting[self] = None
        try:
            data = self._await_bytes(size)
        finally:
            waiting.pop(self, None)
        arrivals.wait(self)
        self._last_yield = monotonic()
        return data

    def _await_bytes(self, size: int) -> bytes:
        ends = monotonic() + self._seconds_left()
        if self._phase is STREAMING_BODY:
            while ends - monotonic() > _CHECK_INTERVAL_S:
                try:
                    return receive(self._sock, size, _CHECK_INTERVAL_S)
                except TimeoutError:
                    self._check()
        return receive(self._sock, size, ends - monotonic())

    def _seconds_left(self) -> float:
        """Return for how many seconds the client may send nothing from now on."""
        phase, settings = self._phase, self._settings
        if phase is IDLE:
            return _AFTER_STREAM_S if self.is_stream else self._keepalive_s
        if phase is STREAMING_BODY:
            return settings.pipe_idle
        spent = monotonic() - self._phase_began
        if phase is BODY:
            return min(settings.body_timeout, settings.body_timeout * _BODY_TIMEOUTS - spent)
        return settings.header_timeout - spent
