"""The part of a `StreamWorker` that keeps parked streams, without a server.

It counts whatever must happen once at the end of each stream.
"""

from __future__ import annotations

from collections import Counter
from contextvars import ContextVar
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from gunicorn import util
from gunicorn.config import Config

from webapp.server.greenlet_pool import GreenletPool
from webapp.server.request_end import RequestEnd, RequestEnds
from webapp.server.stream_driver import ResumeQueue, StreamDriver
from webapp.server.stream_response import StreamResponse
from webapp.server.worker import StreamWorker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from webapp.server.connection import ClientConnection

ONCE = Counter({"context left": 1, "logged": 1, "hook called": 1, "discarded": 1})
SERVED = ContextVar[object]("SERVED")  # must be left where it was entered, as Flask's contexts


class Broken(Exception):
    """An error in a stream."""


class ParkingWorker:
    """Serves one stream, and goes on with it whenever it was parked."""

    def __init__(self) -> None:
        self.log: Any = self
        self.cfg: Any = Config()
        self.cfg.set("post_request", self._hook)
        self.connections: Any = self
        self.alive = True
        self.counts: Any = self
        self.done = Counter[str]()
        self.parked = 0
        self._queue = ResumeQueue(partial(StreamWorker._resume, cast("Any", self)), GreenletPool())
        self._ends = RequestEnds(cast("Any", self))

    def serve(self, connection: ClientConnection, frames: Iterator[bytes]) -> None:
        """Serve a stream until it ends or parks, as gunicorn and `StreamWorker._serve` do."""
        client: Any = connection
        response: Any = StreamResponse(connection.request, client, self.cfg)
        response.headers_sent, response.chunked = True, connection.request.version > (1, 0)
        end = RequestEnd(self._ends, response, {})
        driver = StreamDriver(connection, self._in_a_context(frames), end, self._queue)
        connection.wakeup = driver
        try:
            StreamWorker.is_already_handled(cast("Any", self), driver)
        except (StopIteration, BrokenPipeError, Broken):
            pass
        finally:
            self._ends._after_request(cast("Any", self), response.req, {}, response)
            util.close(client)
            if not connection.parked:
                self.discard(connection)

    def _in_a_context(self, frames: Any) -> Iterator[bytes]:
        token = SERVED.set(self)
        try:
            for frame in frames:
                self.parked += not frame
                yield frame
        finally:
            try:
                frames.close()
            finally:
                SERVED.reset(token)  # raises an error in another context
                self.done["context left"] += 1

    # What gunicorn's logger, hooks, and `OpenConnections` are to a worker

    def access(self, *_: object) -> None:
        self.done["logged"] += 1

    def _hook(self, _worker: Any, _request: Any, _environ: Any, _response: Any) -> None:
        self.done["hook called"] += 1

    def discard(self, _: ClientConnection) -> None:
        self.done["discarded"] += 1

    def count(self, _: ClientConnection, *, is_stream: bool) -> None:
        assert is_stream

    def debug(self, *_: object) -> None:
        pass

    def exception(self, message: str) -> None:
        assert message == "A stream ended by an error."


def request(version: tuple[int, int]) -> Any:
    """Return what a stream needs of gunicorn's request. No other follows on its connection."""
    unreader = SimpleNamespace(take_buffered=lambda: b"")
    return SimpleNamespace(version=version, unreader=unreader, should_close=lambda: True)
