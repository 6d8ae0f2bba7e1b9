"""Compressed streams at clients and proxies that have their own way with compression: each event
arrives before the next one is published.
"""

from __future__ import annotations

import json
import subprocess
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from support import proxies
from support.ports import free_port
from support.programs import need
from support.project import ROOT, environment
from support.stream import Stream
from support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.server import Server

pytestmark = pytest.mark.slow

NODE = {"eventsource", "undici", "fetch of Node"}
NGINX = """server {{ listen 127.0.0.1:{port}; location / {{
  proxy_pass http://127.0.0.1:{hub}; proxy_http_version 1.1; proxy_set_header Host localhost;
  proxy_set_header Accept-Encoding gzip; %s
}} }}"""
HAPROXY = """defaults
    mode http
    timeout connect 5s
    timeout client 50s
    timeout server 50s
    option http-no-delay
frontend edge
    bind 127.0.0.1:{port}
    compression algo gzip
    compression type text/event-stream
    default_backend hub
backend hub
    server hub 127.0.0.1:{hub}
"""
VARNISH = """vcl 4.1;
backend default {{ .host = "127.0.0.1"; .port = "{hub}"; }}
sub vcl_recv {{ return (pass); }}
sub vcl_backend_response {{ set beresp.do_stream = true; }}
"""


def test_clients_of_node(server: Server, topic: str) -> None:
    assert (ROOT / "tests/node_modules").exists(), "npm ci --prefix tests"
    command = [need("node"), "compressed.mjs", f"{server.url}/events?topic={quote(topic)}"]
    with subprocess.Popen(
        command, cwd=Path(__file__).parent, env=environment({}), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout

        def seen_by_all() -> tuple[str, str]:
            lines = [json.loads(process.stdout.readline()) for _ in NODE]  # type: ignore[union-attr]
            assert {(name, coding) for name, coding, *_ in lines} == {(it, "gzip") for it in NODE}
            [found] = {(type_, "" if type_ == "hub.open" else data) for _, _, type_, data in lines}
            return found

        assert seen_by_all() == ("hub.open", "")
        for data in ("one", "two " * 100, "x" * 100_000):
            server.publish(data, topic=topic)
            assert seen_by_all() == ("message", data)
        process.kill()


def each_event_arrives(server: Server, port: int, topic: str, accepted: str) -> str | None:
    """Publish some events one by one; return the coding in which a client was sent them."""
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    headers = {"Accept": "text/event-stream", "Accept-Encoding": accepted}
    connection.request("GET", f"/events?topic={quote(topic)}", headers=headers)
    response = connection.getresponse()
    assert response.status == 200
    with closing(Stream(response, connection)) as stream:
        assert stream.next().type == "hub.open"
        for data in ("one", "two " * 100, "x" * 100_000, "four"):
            server.publish(data, topic=topic)
            assert stream.take(1) == [data]
        found: str | None = stream.headers["Content-Encoding"]
        return found


@pytest.mark.parametrize(
    ("options", "accepted", "coding"),
    [
        ("gunzip on;", "identity", None),
        ("gunzip on;", "gzip", "gzip"),
        ("gzip on; gzip_types *; gzip_proxied any; gzip_min_length 1;", "gzip", "gzip"),
    ],
)
def test_nginx_with_its_own_compression(
    server: Server, topic: str, tmp_path: Path, options: str, accepted: str, coding: str | None
) -> None:
    with proxies.nginx(tmp_path, NGINX % options, server.port) as port:
        assert each_event_arrives(server, port, topic, accepted) == coding


@pytest.mark.parametrize("setting", ["public", "off"])
@pytest.mark.parametrize("accepted", ["identity", "gzip"])
def test_haproxy_with_its_own_compression(
    serve: Callable[..., Server], topic: str, tmp_path: Path, setting: str, accepted: str
) -> None:
    """It compresses nothing, because `no-transform` forbids it."""
    hub = serve(TIDINGS_COMPRESS=setting, TIDINGS_DEMO="0")
    port, command = free_port(), [need("haproxy"), "-db", "-f"]
    config = HAPROXY.format(port=port, hub=hub.port)
    with proxies.running(command, tmp_path, port, config):
        coding = "gzip" if (setting, accepted) == ("public", "gzip") else None
        assert each_event_arrives(hub, port, topic, accepted) == coding


@pytest.mark.parametrize(
    ("accepted", "coding"), [("identity", None), ("gzip", None), ("gzip, deflate, br", "gzip")]
)
def test_varnish_that_passes(
    server: Server, topic: str, tmp_path: Path, accepted: str, coding: str | None
) -> None:
    """The hub cannot tell a client that sends exactly `gzip` from Varnish, which may decode."""
    port = free_port()
    command = [need("varnishd"), "-j", "none", "-F", "-n", str(tmp_path), "-a", f"127.0.0.1:{port}"]
    command += ["-s", "malloc,8M", "-f"]
    with proxies.running(command, tmp_path, port, VARNISH.format(hub=server.port)):
        assert each_event_arrives(server, port, topic, accepted) == coding
