"""Fuzzers of a live hub: broken requests, and requests that hide another one.

After each of them the hub must live, have written no traceback and said nothing but HTTP. A good
subscriber stays connected and gets the good events that are published in between, and no other.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from material import cut, mutate
from support.server import Server, serving
from support.smuggling_vectors import CHUNKED, CHUNKS, CODINGS, FORM, HOST, LENGTHS, request
from support.waiting import PATIENCE

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator
    from contextlib import ExitStack

    from material import Try
    from support.stream import Stream

SETTINGS = {
    "TIDINGS_DEMO": "0",
    "TIDINGS_BROKER_URL": "memory://",
    "TIDINGS_MAX_EVENT_BYTES": "64K",
    "TIDINGS_MAX_BODY_BYTES": "256K",
    "TIDINGS_HEADER_TIMEOUT": "0.3",
    "TIDINGS_BODY_TIMEOUT": "0.3",
    "TIDINGS_HEARTBEAT": "0.1",
    "TIDINGS_MAX_AGE": "0",
}
EVERY = 20  # inputs between two good events
FAILURES = {501}  # what a hub may say with 5xx: not implemented
JSON, LINES = b"Content-Type: application/json\r\n", b"Content-Type: application/x-ndjson\r\n"
PARTS = b"Content-Type: multipart/form-data; boundary=b\r\n"


PART = b'--b\r\nContent-Disposition: form-data; name="data"\r\n\r\nx\r\n--b--\r\n'
GOOD = [
    request(b"GET /events?topic=a&topic=/b/{c}&last=3", b"Last-Event-ID: 1-1\r\n"),
    request(b"GET /events?topic=*&since=15m", b"Accept: text/event-stream\r\n"),
    request(b"GET /.well-known/mercure?topic=a&lastEventID=earliest", b"Cookie: a=b\r\n"),
    request(b"GET / ", b"Accept-Encoding: gzip\r\n", b"If-None-Match: *\r\n"),
    request(b"GET /static/live.js", b"Range: bytes=0-9,20-\r\n"),
    request(b"GET /openapi.json", b"If-None-Match: W/x, y\r\n", b"Connection: close\r\n"),
    request(b"GET /readyz", b"X-Forwarded-For: 1.2.3.4\r\n", b"X-Forwarded-Proto: https\r\n"),
    request(b"HEAD /events?topic=a", b"Authorization: Bearer x.y.z\r\n"),
    request(b"OPTIONS /events", b"Origin: null\r\n", b"Access-Control-Request-Method: POST\r\n"),
    request(b"POST /events", FORM, body=b"topic=a&topic=b&data=x%0Ay&type=t&id=i1&retry=9"),
    request(b"POST /events", JSON, body=b'[{"topic": ["a"], "data": {"b": [1.5, null]}}, {}]'),
    request(b"POST /events", LINES, body=b'{"data": 1}\n\n{"data": "x"}\r\n{"topic": "b"}'),
    request(b"POST /events?topic=a", b"Content-Type: text/plain\r\n", body=b"some text"),
    request(b"POST /.well-known/mercure", PARTS, b"Expect: 100-continue\r\n", body=PART),
    request(b"POST /events", FORM, CHUNKED, body=b"4;x=y\r\ndata\r\n3\r\n=ab\r\n0\r\nT: x\r\n\r\n"),
    request(b"POST /events", LINES, CHUNKED, body=b'c\r\n{"data": 1}\n\r\n0\r\n\r\n'),
]
WORDS = (
    b"\r", b"\n", b"\r\n", b"\n\n", b"\r\n\r\n", b"\0", b" ", b"\t", b"\x0b", b"\x85", b"\xff",
    b":", b",", b";", b"%", b"%00", b"%ff", b"..", b"//", b"?", b"#", b"&", b"-1", b"+1", b"0x1",
    b"99999999999999999999", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/0.9", b"PRI", b"CONNECT", b"PUT",
    b"Host: evil.example\r\n", HOST, b"Host: localhost:x\r\n", b"Content-Length: 0\r\n",
    b"Content-Length: 5\r\n", b"Content-Length: 1e1\r\n", CHUNKED,
    b"Transfer-Encoding: identity\r\n", b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n",
    b"ffffffffffffffff\r\n", b"Connection: keep-alive, Upgrade\r\n", b"Upgrade: websocket\r\n",
    b"Connection: close\r\n", b"Expect: 100-continue\r\n", b"Content-Encoding: gzip\r\n",
    b"Cookie: \xff;=;;\r\n", b"Authorization: Bearer \r\n",
    b"Content-Type: text/plain; charset=utf-7\r\n", b"Range: bytes=-0\r\n",
    b"Content-Type: multipart/form-data; boundary=\r\n", b" folded\r\n", b"X" * 9000, b"[" * 2000,
    b"a&" * 1200, b"If-Modified-Since: x\r\n", b"Accept: ;q=x,*/*;q=9\r\n",
    b"Forwarded: for=x\r\n", b"SCRIPT_NAME: /x\r\n", b"Proxy: x\r\n", b"http://evil.example/",
    b"*", b"Last-Event-ID: \xff\r\n", b"last=99999999999999", b"since=1e9",
)  # fmt: skip


class Target:
    """A hub under attack, and what a good subscriber of it sees."""

    def __init__(self, server: Server, subscriber: Stream, topic: str, log: Path) -> None:
        self._server = server
        self._subscriber = subscriber
        self.topic = topic
        self._log = log.open("rb")
        self._worker = server.worker
        self._count = 0
        self._whole = True

    def send(self, pieces: list[bytes]) -> bytes:
        """Send an attack, hang up half, and return all that was answered."""
        said = b""
        address = (self._server.host, self._server.port)
        with socket.create_connection(address, timeout=PATIENCE) as connection:
            with suppress(OSError):  # it may hang up before it has read all
                for piece in pieces:
                    connection.sendall(piece)
                connection.shutdown(socket.SHUT_WR)
            try:
                while piece := connection.recv(1 << 16):
                    said += piece
                self._whole = True
            except ConnectionResetError:  # who goes on after Connection: close may lose the answer
                self._whole = False
        return said

    def check(self, said: bytes, attack: object) -> None:
        """Demand what holds after every attack."""
        news = self._log.read()
        assert b"Traceback" not in news, (attack, news)
        assert b"a bug of the hub" not in news, (attack, news)
        statuses = {int(it) for it in re.findall(rb"HTTP/1\.[01] (\d{3}) ", said)}
        assert is_http(said) or not self._whole, (attack, said)
        assert not {it for it in statuses if it >= 500} - FAILURES, (attack, said)
        self._count += 1
        if self._count % EVERY == 0:
            self.check_subscriber(attack)

    def check_subscriber(self, attack: object) -> None:
        """Publish a good event, and demand that it is the next that the good subscriber sees."""
        said = self._server.publish(str(self._count), topic=self.topic)
        [message] = self._subscriber.messages(1)
        assert (message.data, message.id) == (str(self._count), said), (attack, message)
        assert self._server.worker == self._worker
        os.kill(self._worker, 0)
        self._subscriber.raw = b""
        self._subscriber.ids.clear()


def is_http(said: bytes) -> bool:
    """Tell whether these are answers, one behind the other, and the last of them is complete."""
    while said:
        head, _, said = said.partition(b"\r\n\r\n")
        if not re.match(rb"HTTP/1\.[01] \d{3} ", head):
            return False
        if not said or said.startswith(b"HTTP/1."):
            continue  # to HEAD, or one that never has a body
        if length := re.search(rb"\r\nContent-Length: (\d+)", head):
            if len(said) < int(length[1]):
                return False
            said = said[int(length[1]) :]
        elif b"\r\nTransfer-Encoding: chunked" in head:
            said = behind_chunks(said)
        else:
            return True  # up to the end of the connection
    return True


def behind_chunks(said: bytes) -> bytes:
    while chunk := re.match(rb"([0-9A-F]+)\r\n", said):
        end = chunk.end() + int(chunk[1], 16)
        assert said[end : end + 2] == b"\r\n", said
        said = said[end + 2 :]
        if chunk[1] == b"0":
            return said
    return b"" if not said else b"a broken chunk: " + said


@contextmanager
def target() -> Iterator[Target]:
    topic = secrets.token_hex(8)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "hub" / "log"
        with (
            serving(["-b", "127.0.0.1:0"], SETTINGS, log) as server,
            server.listen(topic=topic) as subscriber,
        ):
            yield Target(server, subscriber, topic, log)


def mutated(stack: ExitStack) -> Try:
    """Good requests with a few things wrong, some of them in a row."""
    hub = stack.enter_context(target())

    def try_one(rng: random.Random) -> str:
        attack = b"".join(rng.choice(GOOD) for _ in range(rng.choice([1, 1, 1, 2, 3])))
        pieces = cut(rng, mutate(rng, attack, WORDS))
        said = hub.send(pieces)
        hub.check(said, pieces)
        return said[9:12].decode() or "hung up"

    return try_one


def smuggled(stack: ExitStack) -> Try:
    """Requests whose end is a matter of opinion: none is answered, and then the next one too."""
    hub = stack.enter_context(target())
    hidden = (
        b"POST /events?topic=%b&data=smuggled HTTP/1.1\r\n" % hub.topic.encode() + HOST + b"\r\n"
    )

    def try_one(rng: random.Random) -> str:
        kind = rng.choice(["length", "coding", "chunk", "both"])
        pieces = cut(rng, opinion(rng, kind, hidden))
        said = hub.send(pieces)
        hub.check(said, pieces)
        assert said.count(b"HTTP/1.1 ") == 1, (pieces, said)
        assert said[9:12] in {b"400", b"501"}, (pieces, said)
        return f"{kind} {said[9:12].decode()}"

    return try_one


def opinion(rng: random.Random, kind: str, hidden: bytes) -> bytes:
    to = rng.choice([b"POST /events", b"GET /healthz", b"POST /nowhere", b"GET /"])
    filler = [b"X-%d: y\r\n" % n for n in range(rng.randrange(3))]
    good = b"Content-Length: %d\r\n" % rng.choice([0, 5, len(hidden)])
    if kind == "length":
        framing = [b"Content-Length: " + rng.choice([*LENGTHS.values()]) + b"\r\n"]
    elif kind == "coding":
        coding = rng.choice([*CODINGS.values()]) + b"\r\n"
        framing = [coding, *([good] if rng.random() < 0.5 else [])]
    elif kind == "both":
        framing = [CHUNKED, good]
    else:
        body = rng.choice([*CHUNKS.values()]) + hidden
        return request(b"POST /events", *filler, FORM, CHUNKED, body=body)
    headers = [*filler, *framing]
    rng.shuffle(headers)
    return (
        request(to, *headers) + rng.choice([b"0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n", b""]) + hidden
    )
