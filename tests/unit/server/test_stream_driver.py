"""What a `StreamDriver` keeps of a stream."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from weakref import ref

import gevent
import pytest
from gevent import getcurrent
from gunicorn.config import Config

from support.waiting import PATIENCE
from webapp.hub.socket_protocol import PARKED, LastFrame
from webapp.server.greenlet_pool import _MAX_IDLE_GREENLETS, GreenletPool
from webapp.server.loggers import AccessLogger
from webapp.server.request_end import RequestEnd, RequestEnds
from webapp.server.stream_driver import ResumeQueue, StreamDriver
from webapp.server.stream_response import StreamResponse

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMAT = '%(h)s "%(m)s %(U)s" %(s)s %({X-Request-ID}i)s %({x-topic}o)s %({HTTP_X_REQUEST_ID}e)s'
LINE = '192.0.2.7 "GET /events" 200 r-7 a r-7'
ENVIRON = {
    "REQUEST_METHOD": "GET",
    "RAW_URI": "/events?topic=a",
    "PATH_INFO": "/events",
    "QUERY_STRING": "topic=a",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "REMOTE_ADDR": "192.0.2.7",
    "HTTP_X_REQUEST_ID": "r-7",
    "HTTP_X_LONG": "x" * 1000,
}


class Request:
    """gunicorn's, with the headers of a client."""

    method, version = "GET", (1, 1)
    headers = (("X-REQUEST-ID", "r-7"), ("X-LONG", "x" * 1000))
    unreader = SimpleNamespace(take_buffered=lambda: b"")

    def should_close(self) -> bool:
        return False


class Worker:
    """A worker with an access log, if it has a format, and with a hook."""

    def __init__(self, access_log_format: str = "", hook: Any = None) -> None:
        self.cfg: Any = Config()
        self.cfg.set("accesslog", "-" if access_log_format else None)
        self.cfg.set("access_log_format", access_log_format)
        if hook:
            self.cfg.set("post_request", hook)
        self.log = AccessLogger(self.cfg)


def stream(worker: Any, body: Any) -> tuple[StreamDriver, Any, Request]:
    """Return a stream's driver, environ and request."""
    connection: Any = SimpleNamespace(request=Request(), wakeup=None, sendall=bytes)
    ends, environ = RequestEnds(worker), dict(ENVIRON)
    response = StreamResponse(connection.request, connection, worker.cfg)
    response.start_response("200 OK", [("X-Topic", "a"), ("Server-Timing", "a")])
    ends.trim_environ(environ)
    end = RequestEnd(ends, response, environ)
    driver = StreamDriver(connection, body, end, ResumeQueue(lambda _: None, GreenletPool()))
    return driver, environ, connection.request


def test_nothing_keeps_the_request_of_a_parked_stream() -> None:
    driver, environ, request = stream(Worker(), iter([PARKED]))
    reference = ref(request)
    del request
    assert not driver.run()
    assert reference() is None
    assert environ == {}


def test_a_parked_stream_ends_with_one_write() -> None:
    """When a worker stops, thousands of streams end in this way."""
    driver, _, _ = stream(Worker(), iter([b"first", PARKED, b"next", LastFrame(b"bye")]))
    sent = list[bytes]()
    driver.connection.sendall = sent.append  # type: ignore[method-assign, assignment]
    assert not driver.run()
    sent.clear()
    assert driver.run()
    assert sent == [b"4\r\nnext\r\n", b"3\r\nbye\r\n0\r\n\r\n"]


def test_an_access_log_keeps_of_a_parked_stream_what_its_format_names(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(FORMAT)
    monkeypatch.setattr(worker.log.access_log, "handlers", [caplog.handler])
    driver, environ, request = stream(worker, iter([b"first", PARKED, PARKED, b"last"]))
    reference = ref(request)
    del request
    assert not driver.run()
    assert reference() is None
    assert not {"HTTP_X_LONG", "QUERY_STRING"} & environ.keys()
    assert not driver.run()
    assert not caplog.messages
    assert driver.run()
    assert caplog.messages == [LINE]


@pytest.mark.parametrize("frames", [[b"only"], [b"first", PARKED, b"last"]])
def test_a_hook_gets_all_of_a_request_when_its_stream_has_ended(frames: list[bytes]) -> None:
    hooked: list[tuple[Any, ...]] = []

    def hook(worker: Any, request: Any, environ: Any, response: Any) -> None:
        hooked.append((worker, request, environ, response))

    worker = Worker(hook=hook)
    driver, environ, request = stream(worker, iter(frames))
    # Each greenlet of gunicorn's ends in this way, also when its stream parks.
    response: Any = driver._request_end.response  # type: ignore[union-attr]
    while not driver.run():
        worker.cfg.post_request(worker, request, environ, response)
        assert not hooked
    worker.cfg.post_request(worker, request, environ, response)
    assert hooked == [(worker, request, ENVIRON, response)]


def test_a_hook_that_fails_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def hook(_worker: Any, _request: Any) -> None:
        raise ValueError

    worker = Worker(hook=hook)
    worker.log.error_log.propagate = True
    with caplog.at_level(logging.ERROR):
        driver, _, _ = stream(worker, iter([PARKED]))
        assert not driver.run()
        assert driver.run()
    assert "post_request" in caplog.text


def test_a_stream_that_is_woken_before_it_parks_goes_on() -> None:
    def body() -> Iterator[bytes]:
        driver.set()
        yield PARKED
        yield b"goes on"
        yield PARKED

    driver, _, _ = stream(Worker(), body())
    assert not driver.run()
    assert driver.run()


def test_the_streams_that_a_stop_wakes_share_the_greenlets_of_the_pool() -> None:
    """To start a greenlet for each would take a third as long as to end a stream."""
    greenlets, resumed = set[object](), list[StreamDriver]()

    def resume(driver: StreamDriver) -> None:
        greenlets.add(getcurrent())
        resumed.append(driver)

    pool = GreenletPool()
    queue = ResumeQueue(resume, pool)
    drivers = [stream(Worker(), iter(()))[0] for _ in range(200)]
    for driver in drivers:
        queue.add(driver)
    with gevent.Timeout(PATIENCE):
        while len(resumed) < len(drivers):
            gevent.sleep(0.001)
    assert resumed == drivers
    assert len(greenlets) <= 2 * _MAX_IDLE_GREENLETS
