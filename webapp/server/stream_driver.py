"""Iterates the body of a stream, which has no greenlet while it is parked.

gunicorn iterates a response in the greenlet that serves its connection. A greenlet that only waits
costs 8 to 12 KB. So a stream that parks yields `PARKED`, its greenlet leaves the connection open,
and a `StreamDriver` keeps the suspended generator. Once the stream has something to do, another
greenlet continues it.
"""

from __future__ import annotations

from collections import deque
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import gevent
from gunicorn import util

from ..hub.socket_protocol import PARKED, LastFrame
from ..scheduling import yield_to_loop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextvars import Context

    from .connection import ClientConnection
    from .greenlet_pool import GreenletPool
    from .request_end import RequestEnd

_LAST_CHUNK = b"0\r\n\r\n"
_STREAMS_PER_TURN = 8
"""Streams in a turn of the loop: a stop of the worker wakes all of them. As many greenlets wait in
the pool, so none has to be started.
"""


class ResumeQueue:
    """Continues parked streams, each in a greenlet of its own, a few in each turn of the loop."""

    def __init__(self, resume: Callable[[StreamDriver], None], greenlets: GreenletPool) -> None:
        self._resume = resume
        self._spawn = greenlets.spawn
        self._turn: int | None = None  # the loop's, in which streams were continued
        self._resumed = 0
        self._waiting: deque[StreamDriver] = deque()

    def add(self, driver: StreamDriver) -> None:
        """Continue a stream soon, but not before this returns."""
        turn = gevent.get_hub().loop.iteration
        if turn != self._turn:
            self._turn, self._resumed = turn, 0
        self._resumed += 1
        if self._resumed <= _STREAMS_PER_TURN and not self._waiting:
            self._spawn(self._resume, driver)
            return
        if not self._waiting:
            self._spawn(self._resume_waiting)
        self._waiting.append(driver)

    def _resume_waiting(self) -> None:
        while self._waiting:
            yield_to_loop()
            for _ in range(min(_STREAMS_PER_TURN, len(self._waiting))):
                self._spawn(self._resume, self._waiting.popleft())


class StreamDriver:
    """The body of a stream, and what is needed to go on with it in any greenlet. It is the `Keeper`
    of its socket.

    :param body: the app's, which may yield `PARKED`.
    :param request_end: what is done once the stream has ended.
    """

    # There may be thousands.
    __slots__ = (
        "_body",
        "_chunked",
        "_context",
        "_queue",
        "_request_end",
        "_running",
        "_woken",
        "connection",
        "keeps_stream",
        "reusable",
    )

    def __init__(
        self,
        connection: ClientConnection,
        body: Iterator[bytes],
        request_end: RequestEnd,
        queue: ResumeQueue,
    ) -> None:
        self.connection = connection
        self.reusable: bool = not request_end.response.should_close()
        """Whether a request may follow on its connection once it has ended."""
        self._body = body
        self._chunked = request_end.response.chunked
        self._request_end: RequestEnd | None = request_end
        self._queue = queue
        # Flask's contexts must be left in the context in which they were entered.
        self._context: Context = copy_context()
        self._running = True
        self._woken = False
        self.keeps_stream = False

    def set(self) -> None:
        """Let the stream go on soon. See `Wakeup`."""
        self._woken = True
        if not self._running:
            self._running = True
            self._queue.add(self)

    def run(self) -> bool:
        """Send the stream until it parks or ends. Return whether it ended.

        :raises Exception: what ended the stream, or what the connection raised.
        """
        ended = True
        try:
            ended = self._context.run(self._send_frames)
            if not ended:
                self._forget_request()
            elif end := self._request_end:
                end.response.close()
        finally:
            if ended:
                self._end()
        return ended

    def _send_frames(self) -> bool:
        self._woken = False
        connection: Any = self.connection
        end, last = self._request_end, b""
        for frame in self._body:
            if frame is PARKED:
                self.keeps_stream = True
                if not self._woken:
                    self._running = False
                    return False
            elif not frame:  # of a middleware: an empty chunk would be the last one
                continue
            elif end:
                end.response.write(frame)
            elif self._chunked and isinstance(frame, LastFrame):
                last = b"%X\r\n%b\r\n" % (len(frame), frame)
            else:
                util.write(connection, frame, self._chunked)
            self._woken = False
        if self._chunked and not end:
            connection.sendall(last + _LAST_CHUNK)
        return True

    def _forget_request(self) -> None:
        """Forget what its end does not need of the request, once the stream has parked."""
        end, request = self._request_end, self.connection.request
        if end and request:  # else it has parked before
            if pipelined := request.unreader.take_buffered():
                self.connection.unread(pipelined)  # another parser will read the next request
            self.connection.request = None
            self._request_end = end if end.trim() else None

    def _end(self) -> None:
        self.connection.wakeup = None
        try:
            if self._request_end:
                self._request_end.log()
        finally:
            try:
                if close := getattr(self._body, "close", None):
                    self._context.run(close)
            finally:
                if self._request_end:
                    self._request_end.call_hook()
