"""Readers and one publisher: a process of their own, so that their CPU is not the server's.

`client.py PORT LISTEN PUBLISH READERS EVENTS RATE` prints a line of JSON when all readers are
connected, publishes when told `go`, and prints one when each has its events. An event is counted
where its line is complete; it carries the monotonic time, in nanoseconds, at which it was sent.
"""

from __future__ import annotations

import json
import re
import select
import socket
import sys
import time

AT_ONCE = 256  # connects under way: fewer than any server's backlog
PATIENCE = 10  # seconds without progress, after which what is missing is lost
AT_A_TURN = 16  # sockets, so that the publisher does not wait for a thousand readers
PAD = 100  # bytes of an event's data
LONGEST = 120  # seconds for connecting, and for listening
STAMP = re.compile(rb"ts:(\d+)")


class Publisher:
    """One keep-alive connection, by hand: an HTTP library would cost more than the server."""

    def __init__(self, port: int, path: str, events: int, rate: float) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)  # noqa: FBT003 - socket's own signature
        self.head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n"
            f"Content-Length: {PAD}\r\n\r\n"
        ).encode()
        self.events, self.gap = events, 1e9 / rate if rate else 0.0
        self.start = time.monotonic_ns()
        self.sent = self.answered = self.took = 0
        self.answer = b""

    @property
    def waits(self) -> bool:
        return self.sent > self.answered

    def step(self) -> None:
        """Take what came of an answer, or send what is due; never wait."""
        if self.waits:
            self.receive()
        since = time.monotonic_ns() - self.start
        due = self.sent < self.events and since >= self.sent * self.gap
        if due and not self.waits:
            data = b"ts:%d " % time.monotonic_ns()
            self.sock.send(self.head + data.ljust(PAD, b"x"))
            self.sent += 1

    def receive(self) -> None:
        try:
            self.answer += self.sock.recv(65536)
        except BlockingIOError:
            return
        if whole(self.answer):
            if self.answer[9:10] != b"2":
                sys.exit(f"An event was refused: {self.answer!r}")
            self.answered, self.answer = self.answered + 1, b""
            self.took = time.monotonic_ns() - self.start


def whole(answer: bytes) -> bool:
    """Say whether a response is complete: by its length, or without a body."""
    head, end, body = answer.partition(b"\r\n\r\n")
    _, named, length = head.lower().partition(b"content-length:")
    return bool(end) and len(body) >= (int(length.split()[0]) if named else 0)


class Readers:
    """Any number of readers of one address; `timed` keeps each delivery's latency."""

    def __init__(self, port: int, path: str, *, timed: bool) -> None:
        self.address = ("127.0.0.1", port)
        self.ask = (
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n".encode()
        )
        self.timed = timed
        self.epoll = select.epoll()
        self.sockets: dict[int, socket.socket] = {}
        self.counts: dict[int, int] = {}  # of the readers that were answered
        self.tails: dict[int, bytes] = {}  # lines that are not complete yet
        self.delays: list[int] = []
        self.failed = self.delivered = self.last = 0
        self.until = self.limit = 0.0

    def connect(self, count: int) -> None:
        """Return when all are answered or have failed."""
        started, self.limit = 0, time.monotonic() + LONGEST
        self.progress()
        while (settled := len(self.counts) + self.failed) < count and time.monotonic() < self.until:
            while started < min(count, settled + AT_ONCE):
                self.start()
                started += 1
            self.turn()

    def listen(self, publisher: Publisher) -> int:
        """Count until each has its events or nothing comes any more; return how many are lost."""
        events, self.limit = publisher.events, time.monotonic() + LONGEST
        self.progress()
        while time.monotonic() < self.until:
            if self.delivered >= events * len(self.counts) and publisher.answered >= events:
                break
            publisher.step()
            self.turn(0 if publisher.waits else 0.001)
        return sum(max(0, events - count) for count in self.counts.values())

    def start(self) -> None:
        sock = socket.socket()
        sock.setblocking(False)  # noqa: FBT003 - socket's own signature
        sock.connect_ex(self.address)
        self.sockets[sock.fileno()] = sock
        self.epoll.register(sock, select.EPOLLOUT)

    def progress(self) -> None:
        self.until = min(time.monotonic() + PATIENCE, self.limit)

    def turn(self, patience: float = 1) -> None:
        """Serve some of the sockets that are ready."""
        for fd, what in self.epoll.poll(patience, AT_A_TURN):
            try:
                self.receive(fd) if what & select.EPOLLIN else self.request(fd)
            except OSError:
                self.end(fd)
            self.progress()

    def request(self, fd: int) -> None:
        self.sockets[fd].send(self.ask)
        self.epoll.modify(fd, select.EPOLLIN)

    def receive(self, fd: int) -> None:
        data = self.sockets[fd].recv(1 << 16)
        if not data or (fd not in self.counts and b" 200 " not in data[:20]):
            self.end(fd)
            return
        lines, newline, tail = (self.tails.get(fd, b"") + data).rpartition(b"\n")
        self.tails[fd] = tail
        self.counts[fd] = self.counts.get(fd, 0) + (self.count(lines) if newline else 0)

    def count(self, lines: bytes) -> int:
        found = lines.count(b"ts:")
        if found:
            self.last = time.monotonic_ns()
            self.delivered += found
        if self.timed:
            self.delays += [self.last - int(stamp) for stamp in STAMP.findall(lines)]
        return found

    def end(self, fd: int) -> None:
        self.failed += fd not in self.counts
        self.epoll.unregister(fd)
        self.sockets.pop(fd).close()

    def percentile(self, share: float) -> float:
        """Return a latency in milliseconds."""
        return sorted(self.delays)[int(share * len(self.delays))] / 1e6 if self.delays else 0.0


def tell(numbers: dict[str, float]) -> None:
    sys.stdout.write(f"{json.dumps(numbers)}\n")
    sys.stdout.flush()


def main(port: str, listen: str, publish: str, count: str, events: str, rate: str) -> None:
    readers = Readers(int(port), listen, timed=rate != "0")
    readers.connect(int(count))
    tell({"ready": len(readers.counts)})
    sys.stdin.readline()
    publisher = Publisher(int(port), publish, int(events), float(rate))
    lost = readers.listen(publisher)
    result: dict[str, float] = {
        "lost": lost + int(events) * (int(count) - len(readers.counts)),
        "delivered": readers.delivered,
        "seconds": (readers.last - publisher.start) / 1e9,
        "accepted": publisher.answered / (publisher.took / 1e9 or 1),
        "p50": readers.percentile(0.5),
        "p99": readers.percentile(0.99),
    }
    tell(result)
    sys.stdin.read()  # stay connected while the server is looked at


if __name__ == "__main__":
    main(*sys.argv[1:])
