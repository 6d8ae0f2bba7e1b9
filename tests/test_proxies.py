"""Behind nginx (HTTP/1.0 to us, as it was for years) and behind Caddy (HTTP/2 to browsers)."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from conftest import PATIENCE, need, until

from webapp import wire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Server
    from playwright.sync_api import Browser

NGINX = """
daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1;
events {{ worker_connections 256; }}
http {{
  access_log off; client_body_temp_path {folder}; proxy_temp_path {folder};
  fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{ listen 127.0.0.1:{port}; location / {{
    proxy_pass http://127.0.0.1:{hub}; proxy_http_version 1.0; proxy_set_header Host localhost;
  }} }}
}}
"""
CADDY = """{{
  admin off
  auto_https disable_redirects
  skip_install_trust
  storage file_system {folder}
}}
https://localhost:{port} {{
  bind 127.0.0.1
  tls internal
  reverse_proxy 127.0.0.1:{hub}
}}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def proxy(folder: Path, command: list[str], config: str, hub: int) -> Iterator[int]:
    port = free_port()
    path = folder / "config"
    path.write_text(config.format(folder=folder, port=port, hub=hub))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command, str(path)], stdout=log, stderr=log)
    try:
        until(lambda: answers(port), "the proxy is up")
        yield port
    finally:
        process.terminate()
        process.wait(PATIENCE)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(name="nginx")
def _nginx(server: Server, tmp_path: Path) -> Iterator[str]:
    command = [need("nginx"), "-p", str(tmp_path), "-c"]
    with proxy(tmp_path, command, NGINX, server.port) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(name="caddy")
def _caddy(server: Server, tmp_path: Path) -> Iterator[str]:
    caddy = str(Path(sys.executable).with_name("caddy"))
    command = [caddy, "run", "--adapter", "caddyfile", "--config"]
    with proxy(tmp_path, command, CADDY, server.port) as port:
        until(lambda: speaks_tls(port), "Caddy has its certificate")
        yield f"https://localhost:{port}"


def speaks_tls(port: int) -> bool:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as plain:
            context.wrap_socket(plain, server_hostname="localhost").close()
    except OSError:
        time.sleep(0.05)
        return False
    return True


def test_behind_nginx_with_http_1_0_each_event_comes_at_once(
    server: Server, nginx: str, topic: str
) -> None:
    with (
        httpx.Client(base_url=nginx, timeout=PATIENCE, trust_env=False) as client,
        client.stream("GET", "/events", params={"topic": topic}) as stream,
    ):
        messages = wire.parse(stream.iter_raw())
        assert next(messages).type == "hub.open"
        for data in ("one", "two", "x" * 1_000_000):
            server.publish(data, topic=topic)
            assert next(messages).data == data  # before the next is published
        client.post("/events", data={"topic": topic, "data": "through nginx"})
        assert next(messages).data == "through nginx"


def test_behind_nginx_a_reader_that_leaves_is_forgotten(
    server: Server, nginx: str, topic: str
) -> None:
    with httpx.stream("GET", f"{nginx}/events", params={"topic": topic}, trust_env=False) as stream:
        next(stream.iter_raw())
    until(lambda: server.left(topic), "it is forgotten")


MANY = """<script>
  window.seen = 0;
  window.open_ = 0;
  for (let i = 0; i < 30; i++) {
    const source = new EventSource(`/events?topic=%s&n=${i}`);
    source.onopen = () => { window.open_++; };
    source.onmessage = (event) => { if (event.data === "to all") window.seen++; };
  }
</script>"""


def test_behind_caddy_30_streams_of_one_page_share_a_connection(
    server: Server, caddy: str, topic: str, chromium: Browser
) -> None:
    page = chromium.new_page(ignore_https_errors=True)
    page.goto(f"{caddy}/healthz")
    page.set_content(MANY % topic)
    page.wait_for_function("window.open_ === 30")
    server.publish("to all", topic=topic)
    page.wait_for_function("window.seen === 30")
    protocol = "performance.getEntriesByType('navigation')[0].nextHopProtocol"
    assert page.evaluate(protocol) == "h2"
    page.close()
    until(lambda: server.left(topic) == 30, "all are forgotten")
