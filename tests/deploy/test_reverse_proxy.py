"""Each proxy of the page on reverse proxies, run with its block."""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from queue import Queue
from typing import TYPE_CHECKING
from urllib.parse import quote

import httpx
import pytest
from playwright.sync_api import TimeoutError as TooLate

from support.page_proxies import BELOW_A_PATH, PROXIES, page_proxy
from support.ports import free_port
from support.presence import PATH, listed_on
from support.stream import Stream
from support.tokens import KEY, token
from support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

    from support.server import Server

pytestmark = pytest.mark.slow

# These learn that a client disconnected only when they cannot send it a heartbeat.
LATE = {"apache", "lighttpd"}
AUTHORIZED = {"Authorization": f"Bearer {token(publish=['*'], subscribe=['*'])}"}


class Edge:
    """A proxy in front of the hub."""

    def __init__(self, name: str, port: int, hub: Server) -> None:
        self.name, self.port, self.hub = name, port, hub

    def request(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, bytes]:
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)) as connection:
            connection.request(method, path, body, {**AUTHORIZED, **headers})
            response = connection.getresponse()
            return response.status, response.read()

    def subscriptions(self, path: str) -> list[dict[str, str]]:
        status, body = self.request("GET", path)
        assert status == 200, body
        found: list[dict[str, str]] = json.loads(body)["subscriptions"]
        return found

    def listen(self, topic: str) -> Stream:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        headers = {"Accept": "text/event-stream", "Accept-Encoding": "gzip, deflate", **AUTHORIZED}
        connection.request("GET", f"/events?topic={quote(topic, safe='')}", headers=headers)
        response = connection.getresponse()
        assert response.status == 200
        assert response.headers["Content-Encoding"] == "gzip"
        return Stream(response, connection)


@pytest.fixture(name="hubs", scope="module")
def _hubs(serve: Callable[..., Server]) -> dict[bool, Server]:
    """A hub whose heartbeats do not tell a hang-up, and one whose do. Both compress all streams."""
    env = {"TIDINGS_JWT_KEY": KEY, "TIDINGS_COMPRESS": "all"}
    return {
        False: serve(TIDINGS_HEARTBEAT="10m", **env),
        True: serve(TIDINGS_HEARTBEAT="0.5", **env),
    }


@pytest.fixture(name="edge", scope="module", params=PROXIES)
def _edge(
    hubs: dict[bool, Server],
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Iterator[Edge]:
    hub = hubs[request.param in LATE]
    with page_proxy(request.param, tmp_path_factory.mktemp("edge"), hub.port) as port:
        yield Edge(request.param, port, hub)


def test_each_event_arrives_before_the_next_is_published(edge: Edge, topic: str) -> None:
    with closing(edge.listen(topic)) as stream:
        assert stream.next().type == "hub.open"
        for data in ("one", "two", "x" * 300_000):
            path = f"/events?topic={quote(topic, safe='')}"
            status, _ = edge.request("POST", path, data.encode(), **{"Content-Type": "text/plain"})
            assert status == 200
            assert stream.take(1) == [data]


def test_each_line_of_a_pipe_passes_at_once(edge: Edge, topic: str) -> None:
    if edge.name == "apache":
        return  # it reads a whole body before it passes any of it on, as the page says
    lines = Queue[bytes]()
    headers = {"Content-Type": "application/x-ndjson", **AUTHORIZED}
    pipe = HTTPConnection("127.0.0.1", edge.port, timeout=PATIENCE)
    with closing(pipe), closing(edge.listen(topic)) as stream, ThreadPoolExecutor() as pool:
        stream.next()
        body = iter(lines.get, b"")
        sent = pool.submit(pipe.request, "POST", "/events", body, headers, encode_chunked=True)
        try:
            for data in ("one", "two", "three"):
                lines.put(json.dumps({"topic": topic, "data": data}).encode() + b"\n")
                assert stream.take(1) == [data]
        finally:
            lines.put(b"")
            sent.result(PATIENCE)
        assert json.load(pipe.getresponse())["published"] == 3


def test_a_hang_up_arrives(edge: Edge, topic: str) -> None:
    with closing(edge.listen(topic)) as stream:
        stream.next()
        until(lambda: listed_on(edge.hub), "it is listed")
    until(lambda: edge.hub.left(topic), "the hub has noticed")


def test_a_topic_with_slashes_arrives_as_it_was_sent(edge: Edge) -> None:
    topic = "https://e.example//a/b c?d#100%2F"
    with closing(edge.listen(topic)) as stream:
        stream.next()
        path = f"{PATH}/{quote(topic, safe='')}"
        [subscription] = until(lambda: edge.subscriptions(path), "it is listed")
        assert subscription["topic"] == topic
        status, _ = edge.request("DELETE", subscription["id"])
        assert status == 204
        assert stream.rest()[-1].type == "hub.bye"


QUICK = {"timeout server 60s": "retries 0"}  # HAProxy tries for 3 s before it answers
SUBSCRIBE = """([name, url]) => {
  const source = new EventSource(url, { withCredentials: true });
  const state = { name, opened: 0, failed: 0, data: "" };
  source.onopen = () => state.opened++;
  source.onerror = () => state.failed++;
  source.onmessage = ({ data }) => (state.data = data);
  (globalThis.states ??= []).push(state);
}"""


def all_are(page: Page, condition: str) -> None:
    try:
        page.wait_for_function(f"states.every({condition})", timeout=PATIENCE * 1000)
    except TooLate:
        pytest.fail(f"{condition}: {page.evaluate('JSON.stringify(states)')}")


@pytest.mark.browser
def test_an_event_source_survives_an_outage_of_the_hub(
    server: Server,
    serve: Callable[..., Server],
    chromium: Browser,
    tmp_path: Path,
    topic: str,
) -> None:
    page = chromium.new_page()
    page.goto(f"{server.url}/healthz")  # another origin than the proxies'
    env = {"TIDINGS_CORS_ORIGINS": server.url, "TIDINGS_RETRY": "0.5", "SCRIPT_NAME": "/hub"}
    hub = serve(**env)
    with ExitStack() as stack, ThreadPoolExecutor() as pool:

        def start(name: str) -> int:
            folder = tmp_path / name
            folder.mkdir()
            edge = page_proxy(name, folder, hub.port, **QUICK, **{"retry: 3000": "retry: 100"})
            return stack.enter_context(edge)

        names = [*PROXIES, *BELOW_A_PATH]
        for name, port in zip(names, pool.map(start, names), strict=True):
            path = "/hub" if name in BELOW_A_PATH else ""
            url = f"http://127.0.0.1:{port}{path}/events?topic={topic}"
            page.evaluate(SUBSCRIBE, [name, url])
        all_are(page, "({ opened }) => opened === 1")
        os.killpg(hub.process.pid, signal.SIGKILL)
        all_are(page, "({ failed }) => failed > 2")
        serve("-b", f"127.0.0.1:{hub.port}", **env).publish("after", topic=topic)
        all_are(page, "({ data }) => data === 'after'")
        page.close()


@pytest.mark.parametrize("name", [*sorted(PROXIES.keys() - {"varnish"}), *BELOW_A_PATH])
def test_other_requests_get_the_error_during_an_outage(name: str, tmp_path: Path) -> None:
    streams = {"Accept": "text/event-stream"}
    with (
        page_proxy(name, tmp_path, free_port(), **QUICK) as port,
        httpx.Client(timeout=PATIENCE, trust_env=False) as client,
    ):
        url = f"http://127.0.0.1:{port}/hub/events"
        for method, headers in (("POST", streams), ("POST", {}), ("GET", {})):
            answer = client.request(method, url, headers=headers)
            assert answer.status_code in {502, 503}, (method, headers)
        answer = client.get(url, headers={**streams, "Origin": "https://a.example"})
        assert (answer.status_code, answer.text) == (200, "retry: 3000\n")
        assert answer.headers["Content-Type"] == "text/event-stream"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Access-Control-Allow-Origin"] == "https://a.example"
        assert answer.headers["Access-Control-Allow-Credentials"] == "true"
