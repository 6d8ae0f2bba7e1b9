"""Streams that end, in whichever way, leave nothing behind.

`TIDINGS_LEAK_STREAMS=100000` makes it a hundred thousand streams.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import jwt
import pytest

from support.object_counts import ObjectCounts
from support.processes import memory
from support.tokens import KEY, authorization, token
from support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.server import Server

STREAMS = int(os.environ.get("TIDINGS_LEAK_STREAMS", "600"))
WAVE = max(60, STREAMS // 200)  # streams that are open at once
SECONDS = 2 + WAVE / 60  # in which a quarter of them connect, before their token expires
SLACK = 15  # objects that are there by chance
ROOM = 8 << 20  # bytes; a thousand streams that stayed would take 5 MB
OURS = (
    *("webapp.", "flask.", "werkzeug.", "gunicorn.", "gevent.", "greenlet.", "_contextvars."),
    *("_socket.", "builtins.generator", "files", "connections"),
)
SHOWN = {  # the ends of some names; `pytest -s` shows them
    "files": "files",
    "sockets": "_socket3.socket",
    "watchers": "corecext.io",
    "generators": ".generator",
    "contexts": "_contextvars.Context",
    "greenlets": "reenlet",
    "streams": "stream.Stream",
}
# The window's events, verified tokens, and what was revoked, for as long as tokens are valid.
KEPT = ("webapp.core.events.", "webapp.auth.", "webapp.presence.revocations.Revocation")
ABORT = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset


@pytest.fixture(name="objects", scope="module")
def _objects(tmp_path_factory: pytest.TempPathFactory) -> ObjectCounts:
    return ObjectCounts(tmp_path_factory.mktemp("objects"))


@pytest.fixture(name="hub", scope="module")
def _hub(serve: Callable[..., Server], objects: ObjectCounts) -> Iterator[Server]:
    hub = serve(
        *objects.arguments,
        **objects.env,
        TIDINGS_JWT_KEY=KEY,
        TIDINGS_ANONYMOUS="true",
        TIDINGS_MAX_SUBSCRIBERS_PER_IP="0",
        TIDINGS_BROKER_URL="memory://",
        TIDINGS_HEARTBEAT="3600s",
        TIDINGS_HISTORY_BYTES="1M",
        TIDINGS_WINDOW_BYTES="1M",
    )
    hub.http.headers.update(authorization(token(publish=["*"], subscribe=["*"])))
    yield hub
    hub.stop()


def subscribe(hub: Server, topic: str, *, bearer: str = "", received: int = 0) -> socket.socket:
    client = socket.socket()
    if received:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, received)
    client.settimeout(PATIENCE)
    client.connect((hub.host, hub.port))
    lines = [f"GET /events?topic={topic} HTTP/1.1", "Host: localhost"]
    lines += [f"Authorization: Bearer {bearer}"] * bool(bearer)
    client.sendall("\r\n".join([*lines, "", ""]).encode())
    data = b""
    while b"hub.open" not in data or not data.endswith(b"\n\n\r\n"):
        more = client.recv(4096)
        assert more, data
        data += more
    return client


def close(_: Server, client: socket.socket) -> None:
    client.close()


def reset(_: Server, client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
    client.close()


def send_too_much(_: Server, client: socket.socket) -> None:
    client.sendall(b"x" * 5000)
    client.close()


def half_close(_: Server, client: socket.socket) -> None:
    client.shutdown(socket.SHUT_WR)
    while client.recv(4096):
        pass
    client.close()


def begin_another(_: Server, client: socket.socket) -> None:
    client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    client.close()


ENDS = (close, reset, send_too_much, half_close, begin_another)


def end_by_hub(hub: Server, count: int) -> None:
    """Streams that expire, that are ended by an operator, and that do not read."""
    mercure = {"subscribe": ["*"]}
    expiring = jwt.encode({"mercure": mercure, "exp": time.time() + SECONDS}, KEY, "HS256")
    subject = uuid4().hex
    kicked = jwt.encode({"mercure": mercure, "sub": subject}, KEY, "HS256")
    clients = [subscribe(hub, "a", bearer=expiring) for _ in range(count)]
    clients += [subscribe(hub, "a", bearer=kicked) for _ in range(count)]
    clients += [subscribe(hub, "flood", received=4096) for _ in range(count)]
    answer = hub.http.post("/.well-known/mercure/revocations", data={"subject": subject})
    assert answer.is_success, answer.text
    for _ in range(8):
        hub.publish("x" * 60_000, topic="flood")
    for client in clients[: 2 * count]:
        data = b""
        while not data.endswith(b"0\r\n\r\n"):
            more = client.recv(4096)
            assert more, data
            data += more
    for client in clients:
        client.close()


def show(when: str, counts: dict[str, int], bytes_: int) -> None:
    found = {
        name: sum(n for kind, n in counts.items() if kind.endswith(end))
        for name, end in SHOWN.items()
    }
    print(f"{when}: {found}, {bytes_ >> 10} KB")  # noqa: T201 - for who measures


def test_streams_that_ended_leave_nothing_behind(hub: Server, objects: ObjectCounts) -> None:
    def wave(count: int) -> None:
        for end in ENDS:
            clients = [subscribe(hub, f"topic-{number % 7}") for number in range(count)]
            hub.publish("x", topic="topic-1")
            for client in clients:
                end(hub, client)
        end_by_hub(hub, count // 4)

    def counts() -> dict[str, Any]:
        until(lambda: objects.now()["connections"] <= 1, "all connections are closed")
        ours = {name: n for name, n in objects.now().items() if name.startswith(OURS)}
        return {name: n for name, n in ours.items() if not name.startswith(KEPT)}

    wave(WAVE)
    before, bytes_before = counts(), memory(hub.worker)
    show("before", before, bytes_before)
    for _ in range(max(1, STREAMS // (WAVE * len(ENDS)))):
        wave(WAVE)
    after = counts()
    show("after", after, memory(hub.worker))
    grown = {name: n - before.get(name, 0) for name, n in after.items() if n > before.get(name, 0)}
    assert sum(grown.values()) < SLACK, grown
    assert memory(hub.worker) < bytes_before + ROOM


def test_a_parked_stream_has_no_greenlet(hub: Server, objects: ObjectCounts) -> None:
    before = objects.now()
    clients = [subscribe(hub, "parked") for _ in range(WAVE)]
    found = objects.now()
    for client in clients:
        client.close()
    grown = {name: n - before.get(name, 0) for name, n in found.items()}
    assert grown["connections"] == grown["webapp.hub.streams.stream.Stream"] == WAVE
    assert sum(n for name, n in grown.items() if "reenlet" in name) < WAVE // 10
