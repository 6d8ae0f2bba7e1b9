"""One connection that publishes, by hand: an HTTP library would cost more than the server.

Each event carries the monotonic time, in nanoseconds, at which it was sent.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from typing import TYPE_CHECKING

import jwt
from runs import KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runs import Run

PATIENCE = 10  # seconds for a connection
LINES = 500  # of a pipe that are sent together


def token(name: str) -> str:
    """Return a token that may publish and read everything."""
    rights = {"publish": ["*"], "subscribe": ["*"]}
    return jwt.encode({"mercure": rights, "sub": name}, KEY, "HS256")


class Publisher:
    """Sends the run's events one by one, each when the last was answered and it is due."""

    kind = "Content-Type: text/plain\r\n"

    def __init__(self, port: int, path: str, run: Run) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)  # noqa: FBT003 - socket's own signature
        allowed = f"Authorization: Bearer {token('publisher')}\r\n" if run.locked else ""
        self.head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{allowed}{self.kind}".encode()
        self.size, self.events = run.size, run.events
        self.gap = 1e9 / run.rate if run.rate else 0.0
        self.start = time.monotonic_ns()
        self.stamps: list[int] = []
        self.answered = self.took = 0
        self.answer = b""

    @property
    def since(self) -> int:
        """How long ago it began, in nanoseconds."""
        return time.monotonic_ns() - self.start

    @property
    def waits(self) -> bool:
        return len(self.stamps) > self.answered

    def step(self) -> bool:
        """Take what came of an answer, or send what is due; never wait. Say whether one came."""
        answered = self.waits and self.receive()
        due = len(self.stamps) < self.events and self.since >= len(self.stamps) * self.gap
        if due and not self.waits:
            length = b"Content-Length: %d\r\n\r\n" % self.size
            self.sock.send(self.head + length + self.data())
        return answered

    def data(self) -> bytes:
        self.stamps.append(time.monotonic_ns())
        return (b"ts:%d " % self.stamps[-1]).ljust(self.size, b"x")

    def receive(self) -> bool:
        try:
            self.answer += self.sock.recv(1 << 16)
        except BlockingIOError:
            return False
        if not whole(self.answer):
            return False
        if self.answer[9:10] != b"2":
            sys.exit(f"An event was refused: {self.answer!r}")
        self.take(self.answer.partition(b"\r\n\r\n")[2])
        self.answer, self.took = b"", self.since
        return True

    def take(self, _body: bytes) -> None:
        self.answered += 1


class Pipe(Publisher):
    """Sends all events as the lines of one request, as fast as they are taken."""

    kind = "Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n"

    def __init__(self, port: int, path: str, run: Run) -> None:
        super().__init__(port, path, run)
        self.rest = self.head + b"\r\n"
        self.chunks = self.body()

    def step(self) -> bool:
        """Send what fits, then await the answer; never wait. Say whether it went on."""
        if not self.rest:
            return self.receive()
        try:
            self.rest = self.rest[self.sock.send(self.rest) :]
        except BlockingIOError:
            return False
        self.rest = self.rest or next(self.chunks, b"")
        return True

    def body(self) -> Iterator[bytes]:
        for start in range(0, self.events, LINES):
            count = min(LINES, self.events - start)
            lines = b"".join(b'{"topic":"bench","data":"%b"}\n' % self.data() for _ in range(count))
            yield b"%X\r\n%b\r\n" % (len(lines), lines)
        yield b"0\r\n\r\n"

    def take(self, body: bytes) -> None:
        self.answered = json.loads(body)["published"]


def whole(answer: bytes) -> bool:
    """Say whether a response is complete: by its length, or without a body."""
    head, end, body = answer.partition(b"\r\n\r\n")
    _, named, length = head.lower().partition(b"content-length:")
    return bool(end) and len(body) >= (int(length.split()[0]) if named else 0)
