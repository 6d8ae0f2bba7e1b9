"""What a `StreamDriver` keeps of a stream."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast
from weakref import ref

from webapp.hub.socket_protocol import PARKED
from webapp.server.stream_driver import ResumeQueue, StreamDriver


class Request:
    """gunicorn's, with the headers of a client."""

    unreader = SimpleNamespace(take_buffered=lambda: b"")


def test_nothing_keeps_the_request_of_a_parked_stream() -> None:
    request, queue = Request(), ResumeQueue(lambda _: None)
    connection: Any = SimpleNamespace(request=request)
    response: Any = SimpleNamespace(req=request, chunked=True, should_close=lambda: False)
    worker = SimpleNamespace(log=SimpleNamespace(access_log_enabled=False))
    driver = StreamDriver(connection, iter([PARKED]), response, {}, queue)
    reference = ref(request)
    del request, response
    assert not driver.run(cast("Any", worker))
    assert reference() is None
