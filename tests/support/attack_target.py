"""A hub under attack."""

from __future__ import annotations

import json
import re
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from support.waiting import PATIENCE

if TYPE_CHECKING:
    from support.server import Server


MARK = "mk7zq"  # in every bad input


class Target:
    """A hub under attack: it sees every answer, and a subscriber of `*` sees every event."""

    def __init__(self, server: Server, subscriber: Any = None) -> None:
        self.server = server
        self.subscriber = subscriber
        self.seen: set[int] = set()

    def connect(self, request: bytes, *, waits: bool = True) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.server.port), timeout=PATIENCE)
        with suppress(OSError):  # it may answer, and hang up, before it has read all
            connection.sendall(request)
            if not waits:
                connection.shutdown(socket.SHUT_WR)
        return connection

    def answers(self, connection: socket.socket, end: bytes = b"\0") -> tuple[list[int], bytes]:
        """Read up to `end`, or all; return the status of each answer, and what was read."""
        said = b""
        with suppress(ConnectionResetError):
            while not said.endswith(end) and (piece := connection.recv(1 << 16)):
                said += piece
        statuses = [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", said)]
        self.seen.update(statuses)
        return statuses, said

    def attack(self, request: bytes, *, waits: bool = False) -> tuple[list[int], bytes]:
        with self.connect(request, waits=waits) as connection:
            return self.answers(connection)

    def expect_refusal(self, request: bytes, status: int, *, waits: bool = False) -> dict[str, Any]:
        """Demand one answer: a whole problem document that repeats nothing of the request."""
        statuses, said = self.attack(request, waits=waits)
        assert statuses == [status], said[:2000]
        headers, _, body = said.partition(b"\r\n\r\n")
        document: dict[str, Any] = json.loads(body)
        assert b"Content-Type: application/problem+json" in headers
        assert b"Cache-Control: no-store" in headers
        assert document["status"] == status
        assert body.endswith(b"}\n")
        assert b"\\u" not in body
        assert all(document[member] for member in ("title", "detail", "remedy"))
        assert MARK.encode() not in said
        return document
