"""A part of the subscribers of crowd.py: `crowd_client.py PORT COUNT FIRST_ADDRESS`.

Each checks that it gets the events in sequence. When its stream has ended, it waits for the time in
`retry:`, and connects again with its cursor. For each line of input, it prints a line of JSON with
its counts.
"""

from __future__ import annotations

import heapq
import json
import re
import select
import socket
import sys
import time
from collections import Counter
from dataclasses import dataclass

_CONNECTS_AT_ONCE = 64
_ADDRESSES = 4  # of this machine: there are 28,000 ports to connect from for each
_REFUSED_PAUSE_S = 1.0
_STREAM = "GET /events?topic=bench HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n"
_WHOLE = b"\n\r\n"  # ends a chunk, which has whole frames
_END = b"0\r\n\r\n"
_EVENT = re.compile(rb"data: n:(\d+) ts:(\d+)")
_ID = re.compile(rb"(?:^|\n)id: (\S+)\n")
_RETRY = re.compile(rb"retry: (\d+)\n")
_WORKER = re.compile(rb"\r\nWorker: (\d+)")


@dataclass(slots=True)
class Subscriber:
    """One of them, over all its connections."""

    number: int
    sock: socket.socket | None = None
    worker: bytes = b""  # that serves it; empty: it has no answer yet
    rest: bytes = b""  # of what has arrived
    cursor: bytes = b""
    newest: int = 0  # the number of its last event
    retry_s: float = 1
    said_bye: bool = False
    complete: bool = False  # the body of its response


class Crowd:
    """All subscribers of this process."""

    def __init__(self, port: int, count: int, first_address: int) -> None:
        self.port = port
        self.first_address = first_address
        self.all = [Subscriber(number) for number in range(count)]
        self.by_fd: dict[int, Subscriber] = {}
        self.waiting = [(0.0, number) for number in range(count)]  # a heap of when to connect
        self.connecting = 0
        self.epoll = select.epoll()
        self.seen = Counter[str]()
        self.delays_ms = Counter[int]()  # of events, since the last question
        self.ended: list[float] = []  # when the first and the last stream ended

    def run(self) -> None:
        """Go on until the input is closed."""
        self.epoll.register(0, select.EPOLLIN)
        while True:
            self.connect()
            for fd, what in self.epoll.poll(0.05 if self.waiting else 1, 64):
                if not fd:
                    if not sys.stdin.readline():
                        return
                    self.report()
                else:
                    self.serve(fd, what)

    def report(self) -> None:
        workers = Counter(it.worker.decode() for it in self.all if it.worker)
        found = {
            "open": workers.total(),
            "workers": workers,
            "newest": Counter(it.newest for it in self.all),
            "delays_ms": self.delays_ms,
            "ended": self.ended,
            **self.seen,
        }
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()
        self.delays_ms.clear()

    def connect(self) -> None:
        now = time.monotonic()
        while self.waiting and self.waiting[0][0] <= now and self.connecting < _CONNECTS_AT_ONCE:
            number = heapq.heappop(self.waiting)[1]
            sock = socket.socket()
            sock.setblocking(False)  # noqa: FBT003 - socket's own signature
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((f"127.0.0.{self.first_address + number % _ADDRESSES}", 0))
            sock.connect_ex(("127.0.0.1", self.port))
            subscriber = self.all[number]
            subscriber.sock, subscriber.rest = sock, b""
            subscriber.said_bye = subscriber.complete = False
            self.by_fd[sock.fileno()] = subscriber
            self.epoll.register(sock, select.EPOLLOUT)
            self.connecting += 1

    def serve(self, fd: int, what: int) -> None:
        subscriber = self.by_fd[fd]
        assert subscriber.sock
        try:
            if not what & select.EPOLLIN:
                cursor = f"Last-Event-ID: {subscriber.cursor.decode()}\r\n" * bool(
                    subscriber.cursor
                )
                subscriber.sock.send(f"{_STREAM}{cursor}\r\n".encode())
                self.epoll.modify(fd, select.EPOLLIN)
                return
            data = subscriber.sock.recv(1 << 16)
        except OSError:
            data = b""
        self.receive(subscriber, data)
        if not data or subscriber.complete:
            self.end(fd, subscriber)

    def receive(self, subscriber: Subscriber, data: bytes) -> None:
        if not subscriber.worker and (found := _WORKER.search(data)):
            subscriber.worker = found[1] if b" 200 " in data[:20] else b""
            self.connecting -= bool(subscriber.worker)
        data = subscriber.rest + data
        subscriber.complete = data.endswith(_END)
        whole = data.rfind(_WHOLE) + len(_WHOLE) if _WHOLE in data else 0
        frames, subscriber.rest = data[:whole], data[whole:]
        for number, sent_at in _EVENT.findall(frames):
            self.take(subscriber, int(number))
            self.delays_ms[(time.monotonic_ns() - int(sent_at)) // 1_000_000] += 1
        if ids := _ID.findall(frames):
            subscriber.cursor = ids[-1]
        if b"hub." in frames:
            subscriber.said_bye = b"event: hub.bye" in frames
            self.seen["reset"] += frames.count(b"event: hub.reset")
            if retries := _RETRY.findall(frames):
                subscriber.retry_s = int(retries[-1]) / 1000

    def take(self, subscriber: Subscriber, number: int) -> None:
        missing = number - subscriber.newest - 1
        if subscriber.newest and missing:
            self.seen["lost" if missing > 0 else "double"] += abs(missing)
        subscriber.newest = max(subscriber.newest, number)

    def end(self, fd: int, subscriber: Subscriber) -> None:
        assert subscriber.sock
        pause = subscriber.retry_s
        if not subscriber.worker:
            self.connecting -= 1
            self.seen["refused"] += 1
            pause = _REFUSED_PAUSE_S
        elif subscriber.said_bye and subscriber.complete:
            self.seen["whole"] += 1
            self.ended = [*self.ended[:1], time.monotonic()]
        else:
            self.seen["cut"] += 1
        self.epoll.unregister(fd)
        subscriber.sock.close()
        subscriber.sock, subscriber.worker = None, b""
        del self.by_fd[fd]
        heapq.heappush(self.waiting, (time.monotonic() + pause, subscriber.number))


if __name__ == "__main__":
    Crowd(*map(int, sys.argv[1:])).run()
