"""A stream parks, is sent events, is resumed, and ends: behind proxies, and under TLS in gunicorn.

Behind nginx the hub speaks HTTP/1.0, and Caddy speaks HTTP/2 to the client.
"""

from __future__ import annotations

import re
import signal
import subprocess
from base64 import b64encode
from contextlib import ExitStack, contextmanager
from random import Random
from typing import TYPE_CHECKING, cast

import pytest

from support import proxies
from support.certificate import certificate
from support.object_counts import ObjectCounts
from support.programs import need
from support.waiting import PATIENCE, until
from webapp.core import sse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from io import BufferedReader
    from pathlib import Path

    from support.server import Server

STREAMS = 3
LARGE = b64encode(Random(1).randbytes(750_000)).decode()
"""More than the hub lets the kernel hold for a client, also compressed: Caddy asks for that."""
ENOUGH = 40  # of these, for all the buffers between the hub and a client that does not read
NGINX = """server {{ listen 127.0.0.1:{port}; location / {{
  proxy_pass http://127.0.0.1:{hub}; proxy_http_version 1.0; proxy_set_header Host localhost;
}} }}"""


class Client:
    """curl, which reads a stream."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process, self._output = process, cast("BufferedReader", process.stdout)
        header = b""
        while not header.endswith(b"\r\n\r\n"):
            header += self._output.read(1)
        self.version = re.match(rb"HTTP/(\S+) 200", header)
        self.messages = sse.decode(iter(lambda: self._output.read1(1 << 16), b""))


@contextmanager
def client(url: str) -> Iterator[Client]:
    command = [need("curl"), "-sSkN", "--http2", "-D", "-", f"{url}/events?topic=parked"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            yield Client(process)
        finally:
            process.kill()


@contextmanager
def behind_nginx(hub: Server, folder: Path) -> Iterator[str]:
    with proxies.nginx(folder, NGINX, hub.port) as port:
        yield f"http://127.0.0.1:{port}"


@contextmanager
def behind_caddy(hub: Server, folder: Path) -> Iterator[str]:
    with proxies.caddy(folder, hub.port) as (port, _):
        yield f"https://localhost:{port}"


@pytest.mark.parametrize(
    ("front", "version"), [(behind_nginx, b"1.1"), (behind_caddy, b"2")], ids=["nginx", "caddy"]
)
def test_behind_a_proxy_streams_park_resume_and_drain(
    serve: Callable[..., Server],
    tmp_path: Path,
    front: Callable[..., AbstractContextManager[str]],
    version: bytes,
) -> None:
    objects = ObjectCounts(tmp_path)
    hub = serve(*objects.arguments, **objects.env, **SETTINGS)
    with ExitStack() as stack:
        url = stack.enter_context(front(hub, tmp_path))
        hub.publish()  # its connection stays, with a greenlet
        calm = objects.greenlets()
        clients = [stack.enter_context(client(url)) for _ in range(STREAMS)]
        for it in clients:
            assert it.version
            assert it.version[1] == version
            assert next(it.messages).type == "hub.open"
        until(lambda: objects.greenlets() == calm, "all are parked, and have no greenlet")
        sent = send_what_does_not_fit(hub, clients, lambda: objects.greenlets() == calm + STREAMS)
        assert sent < ENOUGH
        until(lambda: objects.greenlets() == calm, "all are parked again")
        drain(hub, clients)
    assert "Traceback" not in hub.log


def test_under_tls_in_gunicorn_streams_wait_resume_and_drain(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    cert, key = certificate(tmp_path)
    hub = serve("--certfile", str(cert), "--keyfile", str(key), **SETTINGS)
    with ExitStack() as stack:
        clients = [stack.enter_context(client(hub.url)) for _ in range(STREAMS)]
        for it in clients:
            assert next(it.messages).type == "hub.open"
        send_what_does_not_fit(hub, clients, iter([False] * 8 + [True]).__next__)
        drain(hub, clients)
    assert "Traceback" not in hub.log


SETTINGS = {
    "TIDINGS_BROKER_URL": "memory://",
    "TIDINGS_HISTORY_BYTES": "1G",
    "TIDINGS_HEARTBEAT": "3600s",
    "TIDINGS_DEMO": "0",
}


def send_what_does_not_fit(hub: Server, clients: list[Client], resumed: Callable[[], bool]) -> int:
    """Publish to clients that stand still, until their streams have to wait; then let them read.
    Return how many large events it took.
    """
    for it in clients:
        it.process.send_signal(signal.SIGSTOP)
    sent = 0
    while sent < ENOUGH and not resumed():
        hub.publish(f"{sent} {LARGE}", topic="parked")
        sent += 1
    hub.publish("small", topic="parked")
    expected = [*[f"{number} {LARGE}" for number in range(sent)], "small"]
    for it in clients:
        it.process.send_signal(signal.SIGCONT)
        assert all(next(it.messages).data == data for data in expected)
    return sent


def drain(hub: Server, clients: list[Client]) -> None:
    """Stop the hub; all streams must end whole."""
    hub.publish("last", topic="parked")
    hub.process.send_signal(signal.SIGTERM)
    for it in clients:
        last, bye = it.messages
        assert (last.data, bye.type, bye.data) == ("last", "hub.bye", '{"reason": "drain"}')
        assert it.process.wait(PATIENCE) == 0  # curl: the body was complete
    assert hub.ended("drain") == len(clients)
