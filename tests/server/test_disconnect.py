"""Leaving and stopping: a hang-up is seen at once, a stop ends each stream with hub.bye."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import struct
import subprocess
import time
from contextlib import ExitStack
from http.client import HTTPConnection
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from support.programs import need
from support.waiting import PATIENCE, one_of_three, until
from webapp.core import sse

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.server import Server

pytestmark = pytest.mark.slow

DRAIN = 10  # seconds, in which a slow machine can end all streams as well
STREAMS = 500


def subscriber(server: Server, topic: str, buffer: int | None = None) -> socket.socket:
    """Open a stream by hand and read its opening."""
    client = socket.socket()
    client.settimeout(PATIENCE)
    if buffer:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    client.connect(("127.0.0.1", server.port))
    client.sendall(f"GET /events?topic={quote(topic)} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    opening = b""
    while not opening.endswith(b"}\n\n\r\n"):
        opening += client.recv(1 << 16)
    return client


def await_bytes(client: socket.socket, wanted: bytes) -> None:
    """Await that something is received, and leave it to be read."""
    until(lambda: wanted in client.recv(1 << 16, socket.MSG_PEEK), f"{wanted!r} is received")


def rest(client: socket.socket) -> bytes:
    data = b""
    while chunk := client.recv(1 << 16):
        data += chunk
    return data


def body(chunked: bytes) -> bytes:
    """Undo the chunks; the last one must be there."""
    found = b""
    while True:
        size, _, chunked = chunked.partition(b"\r\n")
        if not int(size, 16):
            assert chunked == b"\r\n"
            return found
        found += chunked[: int(size, 16)]
        chunked = chunked[int(size, 16) + 2 :]


def close(client: socket.socket) -> None:
    client.close()


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def half_close(client: socket.socket) -> None:
    client.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("unread", [0, 1_000_000])
@pytest.mark.parametrize("leave", [close, reset, half_close])
def test_a_subscriber_that_hangs_up_is_forgotten_within_a_second(
    server: Server, topic: str, leave: Callable[[socket.socket], None], unread: int
) -> None:
    def logged() -> int:
        return len(re.findall(rf"reason=client_left .*topics={re.escape(topic)}\n", server.log))

    def forgotten() -> float:
        before = logged()
        with subscriber(server, topic, buffer=4096) as client:
            if unread:
                server.publish("x" * unread, topic=topic)
            leave(client)
            began = time.monotonic()
            until(lambda: logged() > before, "it is forgotten")
            return time.monotonic() - began

    assert one_of_three(forgotten, lambda seconds: seconds < 1) < 1


def test_some_stray_bytes_are_thrown_away_and_many_end_the_stream(
    server: Server, topic: str
) -> None:
    with subscriber(server, topic) as client:
        client.sendall(b"x" * 1000)
        id_ = server.publish("still here", topic=topic)
        await_bytes(client, f"id: {id_}\n".encode())
        client.sendall(b"x" * 10_000)
        until(lambda: server.left(topic), "the stream is over")


def test_a_stalled_subscriber_is_disconnected_and_delays_nobody(
    serve: Callable[..., Server], topic: str
) -> None:
    server = serve(TIDINGS_WRITE_TIMEOUT="1")
    with subscriber(server, topic, buffer=4096), server.listen(topic=topic) as other:
        for number in range(20):
            # It fits the other's buffers, who cannot be taken for one that does not read either.
            server.publish("x" * 100_000, topic=topic)
            assert len(other.take(1)[0]) == 100_000, number
        until(lambda: server.ended("too_slow") == 1, "the slow one is let go")
        server.publish("x", topic=topic)
        assert other.take(1) == ["x"]
    assert "Traceback" not in server.log


def test_a_subscriber_that_reads_slowly_is_not_one_that_does_not_read(
    serve: Callable[..., Server], topic: str
) -> None:
    server = serve(TIDINGS_WRITE_TIMEOUT="2.5")

    def stays() -> bool:
        before = server.ended("too_slow")
        with subscriber(server, topic, buffer=4096) as slow:
            server.publish("x" * 1_000_000, topic=topic)
            began = time.monotonic()
            while time.monotonic() - began < 6:  # the time itself is what is tested
                assert slow.recv(1000)
                time.sleep(0.1)
            return server.ended("too_slow") == before

    assert one_of_three(stays, bool)


def test_half_a_line_of_a_pipe_that_a_stop_ends_is_not_published(
    serve: Callable[..., Server],
) -> None:
    server = serve(TIDINGS_DRAIN="2")
    head = "POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
    with (
        socket.create_connection(("127.0.0.1", server.port), PATIENCE) as pipe,
        server.listen() as stream,
    ):
        pipe.sendall(f'{head}Content-Length: 999\r\n\r\n{{"data": "a"}}\n{{"da'.encode())
        assert stream.take(1) == ["a"]
        server.process.send_signal(signal.SIGTERM)
        assert [message.type for message in stream.rest()] == ["hub.bye"]
        answer = rest(pipe)
    assert answer.startswith(b"HTTP/1.1 503")
    assert b'"published": 1' in answer


class Crowd:
    """Everything that may be open when a stop comes."""

    def __init__(self, server: Server, stack: ExitStack) -> None:
        self.server = server
        self.subscribers = [
            stack.enter_context(subscriber(server, "crowd")) for _ in range(STREAMS)
        ]
        listen = [need("curl"), "-sN", f"{server.url}/events?topic=crowd"]
        self.curl = stack.enter_context(subprocess.Popen(listen, stdout=subprocess.PIPE))
        assert self.curl.stdout
        assert self.curl.stdout.readline().startswith(b"retry: ")  # it is being served
        feed = [need("curl"), "-sS", "-T-", "-X", "POST", f"{server.url}/events"]
        feed += ["-H", "Content-Type: application/x-ndjson"]
        self.pipe = stack.enter_context(
            subprocess.Popen(feed, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        )
        self.feed("one")
        await_bytes(self.subscribers[0], b"data: one\n")
        self.idle = [HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE) for _ in range(5)]
        for connection in self.idle:
            stack.callback(connection.close)
            connection.request("GET", "/healthz")
            connection.getresponse().read()

    def feed(self, data: str) -> None:
        assert self.pipe.stdin
        self.pipe.stdin.write(json.dumps({"topic": "crowd", "data": data}).encode() + b"\n")
        self.pipe.stdin.flush()

    def check_goodbyes(self) -> None:
        waits = []
        for client in self.subscribers:
            *_, bye = sse.decode([body(rest(client))])
            assert (bye.type, json.loads(bye.data)) == ("hub.bye", {"reason": "drain"})
            waits.append(bye.retry or 0)
        assert min(waits) >= 2000
        assert max(waits) <= 3000 + DRAIN * 1000
        assert max(waits) - min(waits) > DRAIN * 1000 / 2  # they do not come back all at once

    def check_pipe(self) -> None:
        # curl looks at its answer when it has something to send, or nothing more.
        answer, _ = self.pipe.communicate(timeout=PATIENCE)
        assert json.loads(answer)["published"] == 1
        assert self.pipe.returncode == 0

    def check_curl(self) -> None:
        printed, _ = self.curl.communicate(timeout=PATIENCE)
        assert self.curl.returncode == 0
        assert b"event: hub.bye\n" in printed


def terminate_twice(server: Server) -> None:
    """To every process, as Heroku does."""
    os.killpg(server.process.pid, signal.SIGTERM)
    time.sleep(0.05)
    os.killpg(server.process.pid, signal.SIGTERM)


def interrupt(server: Server) -> None:
    os.killpg(server.process.pid, signal.SIGINT)


def interrupt_master(server: Server) -> None:
    server.process.send_signal(signal.SIGINT)


@pytest.mark.parametrize("stop", [terminate_twice, interrupt, interrupt_master])
def test_a_stop_says_goodbye_and_ends_in_time(
    serve: Callable[..., Server], stop: Callable[[Server], None]
) -> None:
    server = serve(TIDINGS_DRAIN=f"{DRAIN}s")
    with ExitStack() as stack:
        crowd = Crowd(server, stack)
        stop(server)
        crowd.check_goodbyes()
        crowd.check_pipe()
        crowd.check_curl()
        assert server.process.wait(PATIENCE) == 0  # gunicorn kills a worker that takes too long
    assert server.ended("drain") == STREAMS + 1
    assert server.log.count("stream ended") == STREAMS + 1
    assert "Traceback" not in server.log
    assert "SIGKILL" not in server.log


def test_a_stop_without_any_time_says_goodbye(serve: Callable[..., Server]) -> None:
    server = serve(TIDINGS_DRAIN="0.000001")
    with server.listen() as stream:
        stream.next()
        server.process.send_signal(signal.SIGTERM)
        assert [message.type for message in stream.rest()] == ["hub.bye"]


def test_a_reload_says_goodbye_and_the_new_worker_takes_over(serve: Callable[..., Server]) -> None:
    server = serve(TIDINGS_DRAIN=f"{DRAIN}s")
    with ExitStack() as stack:
        crowd = Crowd(server, stack)
        old = server.worker
        server.process.send_signal(signal.SIGHUP)
        crowd.check_goodbyes()
        crowd.check_pipe()
        crowd.check_curl()
        until(lambda: f"Worker exiting (pid: {old})" in server.log, "the old worker left")
        assert server.worker != old
        with server.listen() as stream:
            server.publish("after")
            assert stream.take(1) == ["after"]
    assert server.ended("drain") == STREAMS + 1
    assert "Traceback" not in server.log


def test_a_subscriber_stuck_in_a_large_event_does_not_delay_the_stop(
    serve: Callable[..., Server],
) -> None:
    server = serve(TIDINGS_DRAIN="1")
    with subscriber(server, "big", buffer=4096) as stuck, server.listen(topic="big") as other:
        server.publish("x" * 1_000_000, topic="big")
        assert len(other.take(1)[0]) == 1_000_000
        server.process.send_signal(signal.SIGTERM)
        assert other.next().type == "hub.bye"
        assert server.process.wait(PATIENCE) == 0  # gunicorn kills a worker that takes too long
        with pytest.raises((ValueError, AssertionError, OSError)):
            body(rest(stuck))  # cut, and not ended as if it were whole
    assert server.log.count("stream ended") == 2
    assert "Traceback" not in server.log
    assert "SIGKILL" not in server.log


def test_while_it_stops_there_are_no_new_streams(serve: Callable[..., Server]) -> None:
    server = serve(TIDINGS_DRAIN="50")
    with ExitStack() as stack:
        stuck = stack.enter_context(subscriber(server, "big", buffer=4096))
        slow = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), PATIENCE))
        slow.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n")
        server.publish("x" * 1_000_000, topic="big")
        server.process.send_signal(signal.SIGTERM)
        until(lambda: refused(server), "nobody new is let in")
        slow.sendall(b"\r\n")
        answer = rest(slow)
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"event: hub.bye\n" in answer
        assert b'{"reason": "drain"}' in answer
        assert b"hub.open" not in answer
        stuck.close()
        assert server.process.wait(40) == 0  # and not when the drain is over


def refused(server: Server) -> bool:
    try:
        socket.create_connection(("127.0.0.1", server.port), 1).close()
    except ConnectionRefusedError:
        return True
    return False
