"""Subscribers and publishers: a process of their own, so that their CPU is not the server's.

`client.py PORT SUBSCRIBE PUBLISH RUN`, with the run as JSON, prints a line of JSON when all
subscribers are connected, publishes after a line of input, and prints a second one when each
subscriber has its events. (In a replay it publishes first, and the subscribers connect after the
line of input.) An event is counted where its line is complete; it carries the time at which it was
sent.
"""

from __future__ import annotations

import json
import re
import select
import socket
import sys
import time
from collections import defaultdict
from itertools import chain
from typing import TYPE_CHECKING

from gzip_body import GzipBody
from publisher import Publisher, publishers, token, worker
from runs import Run
from stall import Stall

if TYPE_CHECKING:
    from collections.abc import Sequence

_CONNECTS_AT_ONCE = 256  # fewer than any server's backlog
_PROGRESS_TIMEOUT_S = 10  # without progress, after which what is missing is lost
_SOCKETS_PER_TURN = 16  # so that the publisher does not wait for a thousand subscribers
_SILENCE_S = 0.5  # after the last event, where nobody knows how many subscribers are to get it
_PHASE_TIMEOUT_S = 120  # for connecting, and for receiving beyond the time of publishing
_ADDRESSES = 4  # of this machine: there are 28,000 ports to connect from for each
_SMALL_BUFFER_BYTES = 8 << 10  # a receive buffer that is soon full
_PASS_GAP_S = 0.05  # the dispatcher waits less than this between two passes
_STAMP = re.compile(rb"ts:(\d+)")


class Subscribers:
    """The run's subscribers, without a thread or a library: they must cost less than the server."""

    def __init__(self, port: int, path: str, run: Run) -> None:
        self.address, self.path, self.run = ("127.0.0.1", port), path, run
        self.epoll = select.epoll()
        self.sockets: dict[int, socket.socket] = {}
        self.numbers: dict[int, int] = {}  # in the order of connecting
        self.counts: dict[int, int] = {}  # of the subscribers that were answered
        self.tails: dict[int, bytes] = {}  # lines that are not complete yet
        self.apart: dict[int, list[int]] = {}  # stamps, of subscribers that may stop reading
        self.workers: dict[int, bytes] = {}  # the worker that serves each
        self.publishers: dict[int, Publisher] = {}
        self.bodies: dict[int, GzipBody] = {}  # of compressed streams
        self.stays: dict[int, int] = {}  # events, after which each leaves
        self.unread: defaultdict[int, list[bytes]] = defaultdict(list)
        self.wire_bytes = 0  # received since the events began
        self.delays: defaultdict[bytes, list[int]] = defaultdict(list)  # by worker
        self.failed = self.unanswered = self.closed = self.delivered = self.last = 0
        self.uncounted = 0  # of those delivered, before `wire_bytes` were counted
        self.until = self.limit = 0.0

    def connect(self) -> None:
        """Return when all are answered or have failed; those that have are lost."""
        started, count, self.limit = 0, self.run.subscribers, time.monotonic() + _PHASE_TIMEOUT_S
        self.progress()
        while (settled := len(self.counts) + self.failed) < count and time.monotonic() < self.until:
            while started < min(count, settled + _CONNECTS_AT_ONCE):
                self.start(started)
                started += 1
            self.turn()
        self.unanswered = count - len(self.counts)

    def receive_all(self, publishers: Sequence[Publisher]) -> None:
        """Publish, and count until each has its events or nothing comes any more."""
        publishing = self.run.events / self.run.rate if self.run.rate else 0
        self.limit = time.monotonic() + publishing + _PHASE_TIMEOUT_S
        self.wire_bytes = 0
        for publisher in publishers:
            self.publishers[publisher.sock.fileno()] = publisher
            self.epoll.register(publisher.sock, select.EPOLLIN)
        stall = Stall(self, publishers[0])
        self.progress()
        while time.monotonic() < self.until and not self.complete():
            stall.step()
            for publisher in publishers:
                publisher.step()
            self.turn(min(publisher.pause() for publisher in publishers))
            self.read_unread()
        for publisher in publishers:
            self.epoll.unregister(publisher.sock)

    def complete(self) -> bool:
        answered = sum(publisher.answered for publisher in self.publishers.values())
        if self.run.stay:
            return answered >= self.run.events and self.silent_for() > _SILENCE_S
        return self.delivered >= self.expected() and answered >= self.run.events

    def time_fan_out(self, publisher: Publisher) -> int:
        """Publish each event when the last has reached all sockets; no subscriber reads meanwhile.

        Return how many nanoseconds the events took from being sent to the last socket: nearly all
        of this machine's time is the server's.
        """
        arrivals, took = select.epoll(), 0
        sockets = [publisher.sock.fileno(), *self.counts]
        for fd in sockets:
            arrivals.register(fd, select.EPOLLIN | select.EPOLLET)
        arrivals.poll(0)
        for _ in range(self.run.events):
            time.sleep(_PASS_GAP_S)
            publisher.step()
            missing, until = len(sockets), time.monotonic() + _PROGRESS_TIMEOUT_S
            while missing > 0 and time.monotonic() < until:
                time.sleep(0.001)  # between looks: to be woken by each would cost a core
                missing -= len(arrivals.poll(0, len(sockets)))
            took += time.monotonic_ns() - publisher.stamps[-1]
            publisher.receive()
        return took

    def expected(self) -> int:
        return self.run.events * (1 if self.run.own else len(self.counts))

    def start(self, number: int) -> None:
        sock = socket.socket()
        sock.setblocking(False)  # noqa: FBT003 - socket's own signature
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_BIND_ADDRESS_NO_PORT, 1)
        sock.bind((f"127.0.0.{1 + number % _ADDRESSES}", 0))
        if number < self.run.apart:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER_BYTES)
            self.apart[sock.fileno()] = []
        sock.connect_ex(self.address)
        self.sockets[sock.fileno()], self.numbers[sock.fileno()] = sock, number
        first = number < self.run.subscribers
        self.stays[sock.fileno()] = (
            1 + number % self.run.stay if self.run.stay and first else self.run.stay
        )
        self.epoll.register(sock, select.EPOLLOUT)

    def progress(self) -> None:
        self.until = min(time.monotonic() + _PROGRESS_TIMEOUT_S, self.limit)

    def silent_for(self) -> float:
        return time.monotonic() - self.until + _PROGRESS_TIMEOUT_S

    def turn(self, patience: float = 1) -> None:
        """Serve some of the sockets that are ready."""
        for fd, what in self.epoll.poll(patience, _SOCKETS_PER_TURN):
            if publisher := self.publishers.get(fd):
                publisher.receive()
                publisher.step()
            else:
                self.serve(fd, what)
            self.progress()

    def serve(self, fd: int, what: int) -> None:
        try:
            self.receive(fd) if what & select.EPOLLIN else self.request(fd)
        except OSError:
            self.end(fd)

    def request(self, fd: int) -> None:
        number = self.numbers[fd]
        path = f"{self.path}-{number}" if self.run.own else self.path
        path += "&last_event_id=earliest" if self.run.replay else ""
        allowed = f"Authorization: Bearer {token(str(number))}\r\n" if self.run.tokens else ""
        allowed += "Accept-Encoding: gzip\r\n" if self.run.gzip else ""
        ask = (
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n{allowed}\r\n"
        )
        self.sockets[fd].send(ask.encode())
        self.epoll.modify(fd, select.EPOLLIN)

    def receive(self, fd: int) -> None:
        data = self.sockets[fd].recv(1 << 16)
        if not data or (fd not in self.counts and b" 200 " not in data[:20]):
            self.end(fd)
            return
        if fd not in self.workers:
            self.workers[fd] = worker(data)
            self.bodies[fd] = GzipBody()
        else:
            self.wire_bytes += len(data)
        if self.run.later and self.publishers:
            self.unread[fd].append(data)
        else:
            self.read(fd, data)

    def read_unread(self) -> None:
        if all(publisher.answered == publisher.events for publisher in self.publishers.values()):
            for fd, data in self.unread.items():
                self.read(fd, b"".join(data))
                self.progress()
            self.unread.clear()

    def read(self, fd: int, data: bytes) -> None:
        if self.run.gzip:
            data = self.bodies[fd].feed(data)
        lines, newline, tail = (self.tails.get(fd, b"") + data).rpartition(b"\n")
        self.tails[fd] = tail
        self.counts[fd] = self.counts.get(fd, 0) + (self.count(fd, lines) if newline else 0)
        if self.run.stay and self.counts[fd] >= self.stays[fd]:
            self.replace(fd)

    def replace(self, fd: int) -> None:
        """Leave, and let another one come. Bytes count when all that came first have left."""
        if self.numbers[fd] >= self.run.subscribers and not self.uncounted:
            self.wire_bytes, self.uncounted = 0, self.delivered
        for of_stream in (self.counts, self.tails, self.workers, self.bodies):
            del of_stream[fd]
        self.epoll.unregister(fd)
        self.sockets.pop(fd).close()
        self.start(self.numbers[fd] + self.run.subscribers)

    def count(self, fd: int, lines: bytes) -> int:
        found = lines.count(b"ts:")
        if found:
            self.last = time.monotonic_ns()
            self.delivered += found
        if fd in self.apart:
            self.apart[fd] += map(int, _STAMP.findall(lines))
        elif self.run.rate:
            delays = self.delays[self.workers[fd]]
            delays += [self.last - int(stamp) for stamp in _STAMP.findall(lines)]
        return found

    def end(self, fd: int) -> None:
        if fd in self.counts:
            self.closed += 1
        else:
            self.failed += 1
        self.epoll.unregister(fd)
        self.sockets.pop(fd).close()

    def leave(self, fd: int) -> None:
        """Hang up, and be counted no more."""
        self.delivered -= self.counts.pop(fd)
        del self.apart[fd]
        self.sockets.pop(fd).close()

    def percentile(self, share: float, beside: bytes) -> float:
        """Return a latency in milliseconds, of the subscribers that another worker serves."""
        groups = [delays for name, delays in self.delays.items() if name != beside or not beside]
        delays = sorted(chain(*groups))
        return delays[int(share * len(delays))] / 1e6 if delays else 0.0

    def lost(self) -> int:
        """Return how many connects and deliveries are missing."""
        if self.run.stay:
            return self.unanswered
        if self.run.own:
            return self.unanswered + self.expected() - self.delivered
        missing = [max(0, self.run.events - count) for count in self.counts.values()]
        return self.unanswered + sum(missing)


def answer(numbers: dict[str, float]) -> None:
    sys.stdout.write(f"{json.dumps(numbers)}\n")
    sys.stdout.flush()


def main(port: str, subscribe: str, publish: str, spec: str) -> None:
    run = Run(**json.loads(spec))
    subscribers = Subscribers(int(port), subscribe, run)
    path = publish + "-0" if run.own else publish
    took = 0
    if run.replay:
        sent = publishers(int(port), path, run, set(subscribers.workers.values()))
        subscribers.receive_all(sent)
        answer({"ready": run.subscribers})
        sys.stdin.readline()
        start = time.monotonic_ns()
        subscribers.connect()
    else:
        subscribers.connect()
        answer({"ready": len(subscribers.counts)})
        sys.stdin.readline()
        sent = publishers(int(port), path, run, set(subscribers.workers.values()))
        start = sent[0].start
        took = subscribers.time_fan_out(sent[0]) if run.time_fan_out else 0
    subscribers.receive_all(sent)
    ended = max(publisher.start + publisher.took for publisher in sent)
    result: dict[str, float] = {
        "lost": subscribers.lost(),
        "closed": subscribers.closed,
        "wrong": sum(found != sent[0].stamps for found in subscribers.apart.values()),
        "delivered": subscribers.delivered,
        "wire": subscribers.wire_bytes / max(subscribers.delivered - subscribers.uncounted, 1),
        "seconds": (took or subscribers.last - start) / 1e9,
        "accepted": sum(it.answered for it in sent) * 1e9 / max(ended - sent[0].start, 1),
        "p50": subscribers.percentile(0.5, sent[0].worker),
        "p99": subscribers.percentile(0.99, sent[0].worker),
    }
    answer(result)
    sys.stdin.read()  # stay connected while the server is looked at


if __name__ == "__main__":
    main(*sys.argv[1:])
