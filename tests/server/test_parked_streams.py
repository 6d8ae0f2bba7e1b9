"""Parked streams have no greenlet, and their connections are as usable as others."""

from __future__ import annotations

import re
import socket
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.server import Server

STREAM = b"GET /events?topic=parked HTTP/1.1\r\nHost: localhost\r\n\r\n"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(name="short", scope="module")
def _short(serve: Callable[..., Server]) -> Server:
    """A hub that ends each stream after two seconds, and writes an access log."""
    env = {"TIDINGS_MAX_AGE": "2s", "TIDINGS_HEADER_TIMEOUT": "2s"}
    return serve("--access-logfile", "-", TIDINGS_BROKER_URL="memory://", **env)


@contextmanager
def connected(server: Server) -> Iterator[socket.socket]:
    with socket.create_connection((server.host, server.port), PATIENCE) as client:
        yield client


def read_until(client: socket.socket, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        more = client.recv(1 << 16)
        assert more, f"the hub closed after {data!r}"
        data += more
    return data


def test_a_request_may_follow_a_stream_that_ended(short: Server) -> None:
    with connected(short) as client:
        for _ in range(2):
            client.sendall(STREAM)
            assert b"hub.bye" in read_until(client, b"0\r\n\r\n")
        client.sendall(HEALTH)
        assert read_until(client, b"ok\n").startswith(b"HTTP/1.1 200")


def test_a_connection_is_closed_soon_after_its_stream_has_ended(short: Server) -> None:
    with connected(short) as client:
        client.sendall(STREAM)
        read_until(client, b"0\r\n\r\n")
        client.settimeout(PATIENCE)  # the usual time for a next request is 95 s
        assert not client.recv(100)


def test_a_request_that_was_sent_behind_the_one_of_a_stream_is_served(short: Server) -> None:
    with connected(short) as client:
        client.sendall(STREAM + HEALTH)
        assert b"hub.bye" in read_until(client, b"ok\n")


@pytest.mark.parametrize("first", [STREAM, HEALTH], ids=["a stream", "another request"])
def test_a_header_that_began_behind_a_request_must_arrive_in_time(
    short: Server, first: bytes
) -> None:
    with connected(short) as client:
        client.sendall(first + HEALTH[:20])
        while client.recv(1 << 16):  # it ends long before gunicorn's keep-alive
            pass


def test_a_request_that_is_sent_during_a_stream_is_not_served(short: Server) -> None:
    with connected(short) as client:
        client.sendall(STREAM)
        read_until(client, b'"tidings/0.1.0"}\n\n\r\n')
        client.sendall(HEALTH)
        assert b"hub.bye" in read_until(client, b"0\r\n\r\n")
        assert not client.recv(100)


def test_the_access_log_has_a_stream_once_it_has_ended(short: Server) -> None:
    path = "/.well-known/mercure"  # which no other test here asks
    line = re.compile(rf'"GET {re.escape(path)}" 200 \d+ (\d+\.\d+)s')
    with short.listen(path, topic="logged", control=1) as stream:
        assert stream.rest()[-1].type == "hub.bye"
    [seconds] = until(lambda: line.findall(short.log), "the line is there")
    assert float(seconds) > 0.5  # it was not written when the stream was parked


HOOKS = """
from time import monotonic
from webapp.server.conf import *

def pre_request(worker, request):
    request.began = monotonic()
    worker.log.info("hook: before %s", request.path)

def post_request(worker, request, environ, response):
    late = monotonic() - request.began >= 1
    worker.log.info("hook: after %s %s%s", environ["PATH_INFO"], response.status, " late" * late)
"""


@pytest.mark.parametrize("behind", [b"", HEALTH], ids=["sent later", "sent with the first"])
def test_gunicorns_hooks_are_called_before_and_after_each_stream(
    serve: Callable[..., Server], tmp_path: Path, behind: bytes
) -> None:
    conf = tmp_path / "conf.py"
    conf.write_text(HOOKS)
    server = serve("-c", str(conf), TIDINGS_BROKER_URL="memory://", TIDINGS_MAX_AGE="2s")
    with connected(server) as client:
        client.sendall(STREAM + behind)
        read_until(client, b"}\n\n\r\n")
        assert "before /events" in server.log
        if not behind:
            assert b"hub.bye" in read_until(client, b"0\r\n\r\n")
            client.sendall(HEALTH)
        read_until(client, b"ok\n")
    until(lambda: "after /healthz" in server.log, "the last hook was called")
    of_streams = ["before /events", "after /events 200 OK late"]
    of_others = ["before /healthz", "after /healthz 200 OK"]
    said = re.findall("hook: (.*?)(?: late)?\n", server.log)
    assert re.findall("hook: (.*)", server.log)[-4:-2] == of_streams
    assert said[-2:] == of_others


def test_a_full_worker_accepts_again_when_a_parked_stream_ends(
    serve: Callable[..., Server],
) -> None:
    env = {"TIDINGS_BROKER_URL": "memory://", "TIDINGS_MAX_SUBSCRIBERS": "0"}
    server = serve("--worker-connections", "4", **env)
    server.http.close()
    with ExitStack() as stack:
        for _ in range(4):
            client = stack.enter_context(connected(server))
            client.sendall(STREAM)
            assert b"hub.open" in read_until(client, b"}\n\n\r\n")
        late = stack.enter_context(connected(server))
        late.sendall(HEALTH)
        late.settimeout(0.3)
        with pytest.raises(TimeoutError):
            late.recv(100)
        client.close()
        late.settimeout(PATIENCE)
        assert read_until(late, b"ok\n")
