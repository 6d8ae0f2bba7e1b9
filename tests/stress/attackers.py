"""A wave of attackers in a process of their own: `attackers.py PORT HALVES READERS PUBLISHERS`.

HALVES connections send half a request, READERS subscribe and never read, and PUBLISHERS send
garbage, one request after another. It says when all are there, and continues until it is stopped.
"""

from __future__ import annotations

import itertools
import socket
import sys
import threading
from contextlib import suppress

from webapp.config.file_limit import raise_file_limit

PAUSE = 0.5  # seconds between two requests: 200 publishers take half of what a core can refuse
HALVES = (
    b"",
    b"GET /events?topic=x HTTP/1.1\r\nHost: loc",
    b"POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf",
    b"GET /events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nhalf",
)
READER = b"GET /events?topic=noise&topic=*/{n} HTTP/1.1\r\nHost: localhost\r\n\r\n"


def request(kind: str, body: bytes) -> bytes:
    head = f"POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


GARBAGE = (
    b"\x16\x03\x01\xff garbage\r\n\r\n",
    b"POST /events HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    request("application/json", b"[" * 50_000),
    request("application/json", b"[" + b"{}," * 10_001 + b"{}]"),
    request("application/x-www-form-urlencoded", b"data=" + b"%ff" * 20_000),
    request("application/x-ndjson", b'{"data":"x"}\n' + b"\xff" * 1000),
    request("multipart/form-data; boundary=b", b"--b\r\n" * 10_000),
    request("text/plain; charset=utf-16", b"x" * 100_000),
)


def connect(port: int) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # soon full
    sock.connect(("127.0.0.1", port))
    return sock


def publish_garbage(port: int, ended: threading.Event, first: int) -> None:
    for number in itertools.count(first):
        if ended.wait(PAUSE):
            return
        with suppress(OSError), connect(port) as sock:
            sock.settimeout(10)
            sock.sendall(GARBAGE[number % len(GARBAGE)])
            sock.recv(1000)


def main(port: int, halves: int, subscribers: int, publishers: int) -> None:
    raise_file_limit()
    held = []
    for said in [*itertools.islice(itertools.cycle(HALVES), halves), *[READER] * subscribers]:
        held.append(connect(port))
        held[-1].sendall(said)
    ended = threading.Event()
    threads = [
        threading.Thread(target=publish_garbage, args=(port, ended, number))
        for number in range(publishers)
    ]
    for thread in threads:
        thread.start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.read()
    ended.set()
    for thread in threads:
        thread.join()
    for sock in held:
        sock.close()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
