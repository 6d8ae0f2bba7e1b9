"""Behind nginx (HTTP/1.0 to us, as it was for years) and behind Caddy (HTTP/2 to browsers)."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import httpx
import pytest

from support import proxies
from support.presence import ALL, PATH, listed_on
from support.tokens import KEY
from support.waiting import PATIENCE, until
from webapp.core import sse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser

    from support.server import Server

OLD = """server {{ listen 127.0.0.1:{port}; location / {{
  proxy_pass http://127.0.0.1:{hub}; proxy_http_version 1.0; proxy_set_header Host localhost;
}} }}"""


@pytest.fixture(name="nginx")
def _nginx(server: Server, tmp_path: Path) -> Iterator[str]:
    with proxies.nginx(tmp_path, OLD, server.port) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(name="caddy")
def _caddy(server: Server, tmp_path: Path) -> Iterator[str]:
    with proxies.caddy(tmp_path, server.port) as (port, _):
        yield f"https://localhost:{port}"


def test_behind_nginx_with_http_1_0_each_event_comes_at_once(
    server: Server, nginx: str, topic: str
) -> None:
    with (
        httpx.Client(base_url=nginx, timeout=PATIENCE, trust_env=False) as client,
        client.stream("GET", "/events", params={"topic": topic}) as stream,
    ):
        messages = sse.decode(stream.iter_bytes())
        assert next(messages).type == "hub.open"
        for data in ("one", "two", "x" * 1_000_000):
            server.publish(data, topic=topic)
            assert next(messages).data == data  # before the next is published
        client.post("/events", data={"topic": topic, "data": "through nginx"})
        assert next(messages).data == "through nginx"


def test_behind_nginx_a_subscriber_that_leaves_is_forgotten(
    server: Server, nginx: str, topic: str
) -> None:
    with httpx.stream(
        "GET", f"{nginx}/events", params={"topic": topic}, timeout=PATIENCE, trust_env=False
    ) as stream:
        next(stream.iter_raw())
    until(lambda: server.left(topic), "it is forgotten")


DECODING = """server {{ listen 127.0.0.1:{port}; location / {{
  proxy_pass http://127.0.0.1:{hub}/; proxy_set_header Host localhost;
}} }}"""
TOPICS = [
    "news",
    "/news",
    "/users/7",
    "/users/",
    "//a//b",
    "https://e.example/a?b#c",
    "100%2F",
    "ü x",
]


@pytest.fixture(name="hub", scope="module")
def _hub(serve: Callable[..., Server]) -> Server:
    return serve(TIDINGS_JWT_KEY=KEY, TIDINGS_BROKER_URL="memory://")


@pytest.mark.parametrize("proxy", ["nginx", "nginx that decodes", "caddy"])
def test_each_subscription_that_is_listed_can_be_read_and_ended(
    hub: Server, tmp_path: Path, proxy: str
) -> None:
    until(lambda: not listed_on(hub), "the last test's streams have left")
    with ExitStack() as stack:
        if proxy == "caddy":
            port, _ = stack.enter_context(proxies.caddy(tmp_path, hub.port))
            url = f"https://localhost:{port}"
        else:
            site = DECODING if "decodes" in proxy else OLD
            port = stack.enter_context(proxies.nginx(tmp_path, site, hub.port))
            url = f"http://127.0.0.1:{port}"
        client = httpx.Client(
            base_url=url, headers=ALL, timeout=PATIENCE, trust_env=False, verify=False
        )
        stack.enter_context(client)
        streams = {it: stack.enter_context(hub.listen(topic=it)) for it in TOPICS}
        until(lambda: len(listed_on(hub)) == len(TOPICS), "all are listed")
        for subscription in client.get(PATH).json()["subscriptions"]:
            path, topic = subscription["id"], subscription["topic"]
            one = client.get(path)
            assert one.status_code == 200, topic
            assert one.json()["id"] == path
            assert client.delete(path).status_code == 204
            assert streams[topic].rest()[-1].data == '{"reason": "kicked"}'


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
