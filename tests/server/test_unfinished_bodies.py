"""Bodies and lines that have not arrived completely: one publisher leaves room for others."""

from __future__ import annotations

import select
import socket
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import jwt
import pytest

from support.tokens import KEY
from support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.server import Server

LIMIT = 256 << 10
TEXT, PIPE = "text/plain", "application/x-ndjson"


def token(name: str) -> str:
    return jwt.encode({"mercure": {"publish": ["*"]}, "sub": name}, KEY)


def large_body(hub: Server, name: str) -> int:
    headers = {"Content-Type": TEXT, "Authorization": f"Bearer {token(name)}"}
    return hub.http.post("/events", content=b"x" * (LIMIT - 1000), headers=headers).status_code


@pytest.mark.parametrize("kind", [TEXT, PIPE])
def test_one_publisher_leaves_room_for_others(serve: Callable[..., Server], kind: str) -> None:
    hub = serve(
        TIDINGS_JWT_KEY=KEY, TIDINGS_MAX_BODY_BYTES=str(LIMIT), TIDINGS_MAX_EVENT_BYTES=str(LIMIT)
    )
    head = f"POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
    head += f"Authorization: Bearer {token('greedy')}\r\nContent-Length: {LIMIT}\r\n\r\n"
    with ExitStack() as stack:
        clients = []
        for _ in range(20):
            client = socket.create_connection((hub.host, hub.port), timeout=PATIENCE)
            clients.append(stack.enter_context(client))
            with suppress(OSError):  # it may be refused before all is sent
                client.sendall(head.encode() + b"x" * (LIMIT - 1000))
        refused, _, _ = select.select(clients, [], [], PATIENCE)
        answer = refused[0].recv(1000)
        assert answer.startswith(b"HTTP/1.1 429 ")
        assert large_body(hub, "other") == 200
    until(lambda: large_body(hub, "greedy") == 200, "room again")


def test_many_large_bodies_at_once_are_refused_and_small_ones_are_not(
    serve: Callable[..., Server],
) -> None:
    bounds = {"TIDINGS_MAX_BODY_BYTES": str(LIMIT), "TIDINGS_MAX_EVENT_BYTES": str(LIMIT)}
    hub = serve(TIDINGS_JWT_KEY=KEY, **bounds)
    head = f"POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: {LIMIT}\r\n"
    with ExitStack() as stack:
        clients = []
        for number in range(90):  # three of each publisher
            client = socket.create_connection((hub.host, hub.port), timeout=PATIENCE)
            clients.append(stack.enter_context(client))
            sender = f"Authorization: Bearer {token(str(number // 3))}\r\n\r\n"
            with suppress(OSError):  # it may be refused before all is sent
                client.sendall((head + sender).encode() + b"x" * (LIMIT - 1000))
        refused, _, _ = select.select(clients, [], [], PATIENCE)
        assert refused[0].recv(1000).startswith(b"HTTP/1.1 503 ")
        headers = {"Authorization": f"Bearer {token('small')}"}
        assert hub.http.post("/events", content=b"small", headers=headers).status_code == 200
    until(lambda: large_body(hub, "other") == 200, "room again")
