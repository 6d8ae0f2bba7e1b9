"""The module with another server, which refuses, and cuts its frames anywhere."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, ClassVar

import pytest

from support.tabs import listen, met
from support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import BrowserContext, Page

    from support.server import Server


class Plain(BaseHTTPRequestHandler):
    """A server of text/event-stream that knows nothing of the hub's ways."""

    protocol_version = "HTTP/1.1"
    refuse: ClassVar[list[int]]
    parts: ClassVar[list[bytes]]
    asked: ClassVar[list[tuple[str, str | None]]]
    over: ClassVar[threading.Event]

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        if not self.path.startswith("/stream"):
            self.answer(200, "text/plain")
            return
        self.asked.append((self.path, self.headers["Last-Event-ID"]))
        if self.refuse:
            self.answer(self.refuse.pop(0), "text/html")
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        with suppress(ConnectionError):
            for part in self.parts:
                self.wfile.write(part)
                time.sleep(0.002)  # so that it arrives by itself
        if "end" not in self.path:
            self.over.wait(PATIENCE)

    def answer(self, status: int, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture(name="plain")
def _plain() -> Iterator[tuple[str, type[Plain]]]:
    class Mine(Plain):
        refuse: ClassVar[list[int]] = []
        parts: ClassVar[list[bytes]] = []
        asked: ClassVar[list[tuple[str, str | None]]] = []
        over = threading.Event()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Mine)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", Mine
    Mine.over.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(name="elsewhere")
def _elsewhere(
    context: BrowserContext, plain: tuple[str, type[Plain]], serve: Callable[..., Server]
) -> tuple[Page, str, type[Plain]]:
    """A page of another origin that is allowed to import the hub's module."""
    url, handler = plain
    hub = serve(TIDINGS_CORS_ORIGINS=url, TIDINGS_DEMO="0")
    page = context.new_page()
    page.goto(url)
    return page, f"{hub.url}/static/tidings.js", handler


def test_it_comes_back_after_refusals_that_end_an_event_source(
    elsewhere: tuple[Page, str, type[Plain]],
) -> None:
    page, module, server = elsewhere
    server.parts = [b"retry: 10\nid: one\ndata: 1\n\n"]
    listen(page, "/stream?end", module)
    met(page, "() => got.includes('1')")
    server.refuse[:] = [503, 500, 403]
    until(lambda: not server.refuse, "it was refused")
    server.parts = [b"id: two\ndata: 2\n\n"]
    met(page, "() => got.includes('2')")
    said = page.evaluate("said")
    assert [it for it in said if it.startswith("error ") and it != "error "] == [
        "error 503",
        "error 500",
        "error 403",
    ]
    assert server.asked[:2] == [("/stream?end", None), ("/stream?end=&last_event_id=one", "one")]
    server.refuse[:] = [204]
    met(page, "() => source.readyState === 2")


CLOSES_AT_ERROR = """(url) => {
  window.source = new source.constructor(url, { share: true });
  source.onmessage = (event) => got.push(event.data);
  source.onerror = () => source.close();
}"""
REJECTS_ONCE = """(url) => {
  let calls = 0;
  const token = () => (calls++ ? Promise.resolve("t") : Promise.reject());
  window.source = new source.constructor(url, { token });
  source.onmessage = (event) => got.push(event.data);
}"""


def test_a_leader_that_closes_at_an_error_frees_the_lock_at_once(
    elsewhere: tuple[Page, str, type[Plain]],
) -> None:
    page, module, server = elsewhere
    listen(page, "/nothing", module, share=False)
    page.evaluate("source.close()")
    server.parts = [b"retry: 600000\nevent: hub.bye\ndata: {}\n\n"]
    page.evaluate(CLOSES_AT_ERROR, "/stream?end")
    met(page, "() => source.readyState === 2")
    server.parts = [b"data: 1\n\n"]
    page.evaluate(CLOSES_AT_ERROR, "/stream?end")
    met(page, "() => got.includes('1')")


def test_a_token_that_is_rejected_without_a_reason_is_asked_for_again(
    elsewhere: tuple[Page, str, type[Plain]],
) -> None:
    page, module, server = elsewhere
    listen(page, "/nothing", module, share=False)
    page.evaluate("source.close()")
    server.parts = [b"data: 1\n\n"]
    page.evaluate(REJECTS_ONCE, "/stream")
    met(page, "() => got.includes('1')")


STREAM = (
    "\ufeffdata: a bom\n\ndata\n\ndata:\n\n:comment\ndata:x\ndata: y\ndata:  z\n\n\n\n"
    "id: 1\nevent: named\ndata: by name\r\n\r\nid\ndata: reset\r\rid: 2\n\nid: bad\0\n"
    "data: still 2\n\nretry: 10x\nevent:\ndata: \u2028 é 🙂\nnonsense: x\n\nevent: left\n\n"
    "id: \ndata: :\n\ndata: not complete"
).encode()
COMPARE = """(url) => new Promise((resolve) => {
  const seen = { native: [], ours: [] };
  let open = 2;
  setTimeout(() => resolve(seen), 10_000);
  const record = (into) => (event) => {
    into.push([event.type, event.data, event.lastEventId, event.origin]);
    if (event.data !== ":") return;
    event.target.close();
    open -= 1;
    if (!open) resolve(seen);
  };
  for (const [one, into] of [
    [new EventSource(url), seen.native],
    [new source.constructor(url, { share: false }), seen.ours],
  ]) {
    for (const type of ["message", "named"]) one.addEventListener(type, record(into));
  }
})"""


def test_it_reads_what_an_event_source_reads_however_it_is_cut(
    elsewhere: tuple[Page, str, type[Plain]],
) -> None:
    page, module, server = elsewhere
    listen(page, "/nothing", module, share=False)
    page.evaluate("source.close()")
    for step in (1, 2, 3, 1000):
        server.parts[:] = [STREAM[i : i + step] for i in range(0, len(STREAM), step)]
        seen = page.evaluate(COMPARE, "/stream")
        assert seen["ours"] == seen["native"], step
        assert len(seen["native"]) > 8
