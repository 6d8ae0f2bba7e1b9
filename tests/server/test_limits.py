"""Limits: each one refuses in words who goes over it, counts him, and lets all others go on."""

from __future__ import annotations

import json
import re
import socket
import time
from contextlib import ExitStack, closing, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support.processes import settle
from support.server import serving
from support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.server import Server

RATE = 5
FILES = 256
STREAM = {"Accept": "text/event-stream"}


def by(address: str) -> dict[str, str]:
    """A proxy of ours saw this address, whatever the client says."""
    return {"X-Forwarded-For": f"203.0.113.9, unknown, {address}"}


@pytest.fixture(name="limited", scope="module")
def _limited(serve: Callable[..., Server]) -> Server:
    return serve(
        "--access-logfile",
        "-",
        TIDINGS_DEMO="0",
        TIDINGS_TRUSTED_PROXIES="1",
        TIDINGS_MAX_SUBSCRIBERS_PER_IP="2",
        TIDINGS_PUBLISH_RATE=str(RATE),
        TIDINGS_PIPE_IDLE="0.5",
    )


def test_each_address_has_its_own_share_of_the_streams(limited: Server, topic: str) -> None:
    url, mine = f"/events?topic={topic}", by("192.0.2.1")
    with limited.listen(topic=topic, headers=by("192.0.2.2")) as other, ExitStack() as mess:
        for _ in range(2):
            mess.enter_context(limited.listen(topic=topic, headers=mine)).next()
        for _ in range(3):
            assert limited.http.head(url, headers=mine).status_code == 200  # takes no room
        refused = limited.http.get(url, headers=mine)
        assert refused.status_code == 429
        assert refused.headers["Retry-After"] == "1"
        assert refused.json()["reason"] == "too_many"
        answer = limited.http.get(url, headers=mine | STREAM)
        assert answer.status_code == 200
        assert re.fullmatch(
            r'retry: \d+\nevent: hub.bye\ndata: {"reason": "too_many"}\n\n', answer.text
        )
        limited.http.post(url, content="to all", headers=by("192.0.2.3"))
        assert other.take(1) == ["to all"]

    def back() -> bool:
        with suppress(AssertionError), limited.listen(topic=topic, headers=mine) as stream:
            return stream.next().type == "hub.open"
        return False

    until(back, "those that left made room")


def test_the_access_log_names_the_clients_own_address(limited: Server) -> None:
    assert limited.http.get("/nowhere", headers=by("192.0.2.77")).status_code == 404
    until(lambda: '192.0.2.77 "GET /nowhere" 404' in limited.log, "the line is written")


def test_who_publishes_too_fast_gets_retry_after_and_others_go_on(
    limited: Server, topic: str
) -> None:
    def publish(address: str, count: int = 1) -> Any:
        batch = [{"topic": topic}] * count
        return limited.http.post("/events", json=batch, headers=by(address))

    began = time.monotonic()
    taken = 0
    while (refused := publish("192.0.2.10", RATE)).status_code == 200:
        taken += RATE
        assert taken <= RATE * (1 + time.monotonic() - began)
    assert taken
    assert (refused.status_code, refused.json()["reason"]) == (429, "rate")
    assert refused.headers["Retry-After"] == "1"
    assert publish("192.0.2.11", RATE).status_code == 200
    time.sleep(1)  # as Retry-After says
    assert publish("192.0.2.10", 1).status_code == 200


def test_a_pipe_that_is_too_fast_is_slowed_down(limited: Server, topic: str) -> None:
    lines, others = f'{{"topic":"{topic}"}}\n' * 2 * RATE, by("192.0.2.21")
    began = time.monotonic()
    status, found = piped(limited, lines, "0\r\n\r\n", address="192.0.2.20")
    assert (status, found["published"]) == (200, 2 * RATE)
    assert time.monotonic() - began > 0.9  # a second's worth at once, then one by one
    assert limited.http.post("/events", content="x", headers=others).status_code == 200


def piped(server: Server, lines: str, end: str = "", *, address: str) -> tuple[int, Any]:
    """Send a pipe, in one piece that no pause can part, and return the status and the answer."""
    head = "POST /events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
    head += "Content-Type: application/x-ndjson\r\nConnection: close\r\n"
    head += f"X-Forwarded-For: {address}\r\n"
    with socket.create_connection((server.host, server.port), PATIENCE) as pipe:
        pipe.sendall(f"{head}\r\n{len(lines):x}\r\n{lines}\r\n{end}".encode())
        said = b""
        while piece := pipe.recv(1 << 16):
            said += piece
    return int(said.split(b" ")[1]), json.loads(said.partition(b"\r\n\r\n")[2])


def test_a_pipe_that_is_quiet_for_too_long_gets_its_answer(limited: Server, topic: str) -> None:
    lines = f'{{"topic":"{topic}"}}\n{{"topic":'  # the second one is not complete
    status, found = piped(limited, lines, address="192.0.2.22")
    assert (status, found["reason"], found["published"]) == (408, "pipe_idle", 1)
    assert found["last_id"]


def test_no_refusal_is_a_traceback(limited: Server) -> None:
    assert "Traceback" not in limited.log


def test_a_connection_without_a_next_request_is_closed_and_not_counted(
    serve: Callable[..., Server],
) -> None:
    server = serve("--keep-alive", "1", TIDINGS_DEMO="0", TIDINGS_HEADER_TIMEOUT="60")
    with socket.create_connection((server.host, server.port), PATIENCE) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        said = b""
        while piece := connection.recv(1 << 16):
            said += piece
    assert said.startswith(b"HTTP/1.1 200 ")
    assert said.count(b"HTTP/1.1") == 1
    assert 'reason="header_timeout"' not in server.http.get("/metrics").text


def half_requests(server: Server, count: int, said: bytes) -> Iterator[socket.socket]:
    for _ in range(count):
        connection = socket.socket()
        connection.setblocking(False)  # noqa: FBT003 - the socket's own way
        connection.connect_ex((server.host, server.port))
        yield connection
        with suppress(OSError):
            connection.send(said)


def publish(publisher: HTTPConnection) -> None:
    """Publish over a connection that stays open; the client opens no second one for it."""
    publisher.request("POST", "/events?topic=t&data=on")
    response = publisher.getresponse()
    assert (response.status, bool(response.read())) == (200, True)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="it asks Linux")
def test_with_no_files_left_those_who_say_nothing_make_room(tmp_path: Path) -> None:
    limit = ["sh", "-c", f'ulimit -n {FILES} && exec "$0" "$@"']
    env = {"TIDINGS_DEMO": "0", "TIDINGS_HEADER_TIMEOUT": "60", "TIDINGS_BODY_TIMEOUT": "60"}
    with (
        serving(["-b", "127.0.0.1:0"], env, tmp_path / "log", limit) as server,
        server.listen(topic="t") as subscriber,
        ExitStack() as stack,
    ):
        worker = server.worker
        publisher = stack.enter_context(closing(HTTPConnection(server.host, server.port)))
        publish(publisher)
        assert subscriber.take(1) == ["on"]
        body = b"POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx"
        for said in (b"", b"GET /eve", body):
            for idle in half_requests(server, FILES, said):
                stack.enter_context(idle)
            publish(publisher)
            assert subscriber.take(1) == ["on"]
            for path in ("/healthz", "/readyz", "/metrics"):
                answer = server.http.get(path, headers={"Connection": "close"})
                assert answer.status_code == 200
        assert server.worker == worker
        assert "Traceback" not in server.log
        settle(worker)  # it does not spin


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="it fills buffers of Linux")
def test_with_no_files_left_those_who_do_not_read_make_room(tmp_path: Path) -> None:
    requests = b"GET /static/live.png HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50
    limit = ["sh", "-c", f'ulimit -n {FILES} && exec "$0" "$@"']
    with (
        serving(["-b", "127.0.0.1:0"], {"TIDINGS_DEMO": "0"}, tmp_path / "log", limit) as server,
        server.listen(topic="t") as subscriber,
        ExitStack() as stack,
    ):
        for _ in range(FILES):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect((server.host, server.port))
            with suppress(OSError):
                client.sendall(requests)
        for path in ("/healthz", "/readyz", "/static/live.png"):
            answer = server.http.get(path, headers={"Connection": "close"})
            assert answer.status_code == 200
        metrics = server.http.get("/metrics", headers={"Connection": "close"}).text
        assert 'tidings_refused_total{reason="connections"}' in metrics
        server.publish("on", topic="t")
        assert subscriber.take(1) == ["on"]
        assert "Traceback" not in server.log


def test_streams_leave_room_for_others_where_gunicorn_limits_connections(
    serve: Callable[..., Server],
) -> None:
    server = serve("--worker-connections", "10", TIDINGS_DEMO="0")
    with ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(server.listen(topic="t"))
        refused = server.http.get("/events", headers={"Connection": "close"})
        assert refused.status_code == 503
        assert refused.json()["reason"] == "full"
        for path in ("/readyz", "/events?data=x"):
            method = "GET" if path == "/readyz" else "POST"
            answer = server.http.request(method, path, headers={"Connection": "close"})
            assert answer.status_code == 200
