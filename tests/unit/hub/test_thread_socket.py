"""The bytes between a stream in the hub's thread and the thread of its request."""

from __future__ import annotations

import gc
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from gevent.event import Event as Signal

from support.waiting import PATIENCE, until
from webapp.hub.streams.client_watch import ClientWatch
from webapp.hub.streams.thread_socket import ThreadFrames, ThreadSocket
from webapp.loop_thread import InLoop, LoopThread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LARGE = b"x" * (1 << 20)


class Stream:
    """Sends some frames, and notes how it ended."""

    def __init__(self, *frames: bytes | Exception, parks: bool = False) -> None:
        self._frames = frames
        self._parks = parks
        self.hung_up = 0
        self.ended: list[str] = []
        self._is_told = Signal()

    def frames(self, sock: ThreadSocket) -> Iterator[bytes]:
        try:
            for frame in self._frames:
                if isinstance(frame, Exception):
                    raise frame
                yield frame
            if self._parks:
                with sock.on_hangup(self._note_hangup):
                    self._is_told.wait()
            self.ended.append("complete")
        except GeneratorExit:
            self.ended.append("cut")
            raise

    def _note_hangup(self) -> None:
        self.hung_up += 1
        self._is_told.set()


@pytest.fixture(name="loop", scope="module")
def _loop() -> LoopThread:
    return LoopThread()


@pytest.fixture(name="begin")
def _begin(loop: LoopThread) -> Callable[..., ThreadFrames]:
    def begin(stream: Any, watch: ClientWatch | None = None, seconds: float = 60) -> ThreadFrames:
        sock = ThreadSocket(loop, watch or ClientWatch(None), seconds)
        loop.start(sock.run, stream)
        return ThreadFrames(sock, lambda: None)

    return begin


@contextmanager
def connected() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_all_bytes_arrive_in_order(begin: Callable[..., ThreadFrames]) -> None:
    stream = Stream(b"a", LARGE, b"b")
    assert b"".join(begin(stream)) == b"a" + LARGE + b"b"
    assert stream.ended == ["complete"]


def test_a_client_that_does_not_read_is_disconnected(begin: Callable[..., ThreadFrames]) -> None:
    stream = Stream(LARGE)
    with connected() as (ours, theirs):
        frames = begin(stream, ClientWatch(ours.fileno()), seconds=0.01)
        theirs.settimeout(PATIENCE)
        assert theirs.recv(1) == b""
        until(lambda: stream.ended, "it has ended")
        assert stream.ended == ["cut"]
        frames.close()


def test_a_response_that_is_dropped_ends_its_stream(begin: Callable[..., ThreadFrames]) -> None:
    stream = Stream(b"a", LARGE)
    begin(stream)
    gc.collect()
    until(lambda: stream.ended == ["cut"], "it ends")


def test_a_hangup_is_noticed_while_nothing_is_sent(begin: Callable[..., ThreadFrames]) -> None:
    stream = Stream(b"a", parks=True)
    with connected() as (ours, theirs):
        frames = begin(stream, ClientWatch(ours.fileno()))
        assert next(frames) == b"a"
        theirs.close()
        assert list(frames) == []
    assert (stream.hung_up, stream.ended) == (1, ["complete"])


def test_a_client_that_the_server_lost_ends_the_body(begin: Callable[..., ThreadFrames]) -> None:
    stream = Stream(b"a", parks=True)
    frames = begin(stream, ClientWatch(None, lambda: False))
    assert set(frames) <= {b"a"}
    frames.close()
    until(lambda: stream.ended, "it ends")


def test_an_error_of_the_stream_is_raised_for_the_server(
    begin: Callable[..., ThreadFrames],
) -> None:
    frames = begin(Stream(b"a", ValueError("a bug")))
    assert next(frames) == b"a"
    with pytest.raises(ValueError, match="a bug"):
        next(frames)


def test_methods_run_in_the_loops_thread(loop: LoopThread) -> None:
    values = InLoop(loop, ["b", "a"])
    values.sort()
    assert (len(values), values.index("b")) == (2, 1)
    with pytest.raises(ValueError, match="list"):
        values.index("c")
