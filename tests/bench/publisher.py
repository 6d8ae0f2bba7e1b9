"""A connection that publishes, by hand: an HTTP library would cost more than the server.

Each event carries the monotonic time, in nanoseconds, at which it was sent.
"""

from __future__ import annotations

import json
import re
import socket
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import jwt

from runs import KEY
from texts import make

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runs import Run

_CONNECT_TIMEOUT_S = 10
_LINES_PER_CHUNK = 500
_WORKER = re.compile(rb"\r\nWorker: (\d+)")  # of an answer's head, see watched.py


def token(name: str) -> str:
    """Return a token that may publish and subscribe to everything."""
    rights = {"publish": ["*"], "subscribe": ["*"]}
    return jwt.encode({"mercure": rights, "sub": name}, KEY, "HS256")


def worker(head: bytes) -> bytes:
    """Return which of a server's processes answers, or nothing where it does not say."""
    found = _WORKER.search(head)
    return found[1] if found else b""


class Publisher:
    """Sends its part of the run's events, each when the last was answered and it is due."""

    kind = "Content-Type: text/plain\r\n"

    def __init__(self, port: int, path: str, run: Run) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), _CONNECT_TIMEOUT_S)
        self.worker = self.ask() if run.workers > 1 else b""
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)  # noqa: FBT003 - socket's own signature
        allowed = f"Authorization: Bearer {token('publisher')}\r\n" if run.locked else ""
        self.head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{allowed}{self.kind}".encode()
        self.size, self.events = run.size, run.events // run.publishers
        self.text, self.ids = run.text, run.ids
        self.gap = 1e9 / run.rate if run.rate else 0.0
        self.start = time.monotonic_ns()
        self.stamps: list[int] = []
        self.answered = self.took = 0
        self.answer = b""

    @property
    def since(self) -> int:
        """How long ago it began, in nanoseconds."""
        return time.monotonic_ns() - self.start

    def ask(self) -> bytes:
        """Return the worker that serves this connection."""
        self.sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return worker(self.sock.recv(1 << 16))

    def pause(self) -> float:
        """Return in how many seconds there is something to send."""
        if self.answered < len(self.stamps) or len(self.stamps) == self.events:
            return 1
        return max(0.0, (len(self.stamps) * self.gap - self.since) / 1e9)

    def step(self) -> None:
        """Send what is due; never wait."""
        if not self.pause():
            data = self.data()
            length = b"Content-Length: %d\r\n\r\n" % len(data)
            self.sock.send(self.head + length + data)

    def data(self) -> bytes:
        self.stamps.append(time.monotonic_ns())
        if self.text:  # to the millisecond, as real times are
            return make(self.text, len(self.stamps), f"ts:{self.stamps[-1] // 10**6}000000")
        return (b"ts:%d " % self.stamps[-1]).ljust(self.size, b"x")

    def receive(self) -> None:
        """Receive a part of an answer."""
        self.answer += self.sock.recv(1 << 16)
        if not whole(self.answer):
            return
        if self.answer[9:10] != b"2":
            sys.exit(f"An event was refused: {self.answer!r}")
        self.take(self.answer.partition(b"\r\n\r\n")[2])
        self.answer, self.took = b"", self.since

    def take(self, _body: bytes) -> None:
        self.answered += 1


class NdjsonPublisher(Publisher):
    """Sends all events as the lines of one request, as fast as they are taken."""

    kind = "Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n"

    def __init__(self, port: int, path: str, run: Run) -> None:
        super().__init__(port, path, run)
        self.rest = self.head + b"\r\n"
        self.chunks = self.body()

    def pause(self) -> float:
        return 0 if self.rest else 1

    def step(self) -> None:
        """Send what fits; never wait."""
        with suppress(BlockingIOError):
            self.rest = self.rest[self.sock.send(self.rest) :] if self.rest else b""
            self.rest = self.rest or next(self.chunks, b"")

    def body(self) -> Iterator[bytes]:
        for start in range(0, self.events, _LINES_PER_CHUNK):
            count = min(_LINES_PER_CHUNK, self.events - start)
            lines = b"".join(self.line(start + n) for n in range(count))
            yield b"%X\r\n%b\r\n" % (len(lines), lines)
        yield b"0\r\n\r\n"

    def line(self, number: int) -> bytes:
        own = b'"id":"event-%d",' % number if self.ids else b""
        return b'{%b"data":"%b"}\n' % (own, self.data())

    def take(self, body: bytes) -> None:
        self.answered = json.loads(body)["published"]


def publishers(port: int, path: str, run: Run, workers: set[bytes]) -> list[Publisher]:
    """Return connections that publish.

    :param workers: those of the subscribers; where there are more, publishers are at another one.
    """
    if run.pipe:
        return [NdjsonPublisher(port, path, run)]
    found: list[Publisher] = []
    while len(found) < run.publishers:
        publisher = Publisher(port, path, run)
        if workers != {publisher.worker} or run.workers == 1:
            found.append(publisher)
    return found


def whole(answer: bytes) -> bool:
    """Say whether a response is complete: by its length, or without a body."""
    head, end, body = answer.partition(b"\r\n\r\n")
    _, named, length = head.lower().partition(b"content-length:")
    return bool(end) and len(body) >= (int(length.split()[0]) if named else 0)
