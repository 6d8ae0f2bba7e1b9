"""The limit that Python can reach: a loop that writes each frame to every socket, and nothing else.

It knows no topics, no event log and no slow subscribers: one whose buffer is full is dropped,
which the benchmark reports as a loss.
"""

from __future__ import annotations

import os
import select
import socket
import sys

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n:\n\n"
ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"


subscribers: set[int] = set()
pending: dict[int, bytes] = {}  # by connection: the part of a request that has come


def serve(port: int) -> None:
    listener = socket.create_server(("127.0.0.1", port), backlog=4096)
    epoll = select.epoll()
    epoll.register(listener, select.EPOLLIN)
    while True:
        for fd, _ in epoll.poll():
            if fd == listener.fileno():
                client = listener.accept()[0].detach()
                os.set_blocking(client, False)
                epoll.register(client, select.EPOLLIN)
                pending[client] = b""
            elif fd in subscribers or fd in pending:  # not dropped in this very turn
                receive(fd)


def receive(fd: int) -> None:
    try:
        data = os.read(fd, 65536)
    except ConnectionError:
        data = b""
    if not data:
        drop(fd)
    elif fd in pending:
        request(fd, pending[fd] + data)


def request(fd: int, data: bytes) -> None:
    """Answer a request, or keep the part of it that is here."""
    head, end, body = data.partition(b"\r\n\r\n")
    pending[fd] = data
    if end and head.startswith(b"GET"):
        del pending[fd]
        subscribers.add(fd)
        os.write(fd, HEAD)
    elif end and len(body) >= int(head.lower().partition(b"content-length:")[2].split()[0]):
        pending[fd] = b""
        publish(b"data: %b\n\n" % body)
        os.write(fd, ANSWER)


def publish(frame: bytes) -> None:
    for fd in list(subscribers):
        try:
            whole = os.write(fd, frame) == len(frame)
        except OSError:
            whole = False
        if not whole:
            drop(fd)


def drop(fd: int) -> None:
    subscribers.discard(fd)
    pending.pop(fd, None)
    os.close(fd)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
