"""The browser module `tidings.js` in real Chromium, with this hub and with another's server."""

from __future__ import annotations

import gzip
import os
import re
import signal
import threading
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, ClassVar

import jwt
import pytest
from playwright.sync_api import TimeoutError as TooLate
from playwright.sync_api import expect

from support.ports import free_port
from support.project import ROOT
from support.server import serving
from support.tokens import KEY
from support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, BrowserContext, Page, Route

    from support.server import Server

MODULE = ROOT / "webapp" / "static" / "tidings.js"
START = """async ([module, url, options]) => {
  const { Tidings } = await import(module);
  const token = options.minted && (() => mint());
  window.got = [];
  window.said = [];
  window.source = new Tidings(url, { ...options, token });
  source.onmessage = (event) => got.push(event.data);
  for (const type of ["open", "error", "hub.open", "hub.reset", "hub.bye", "hub.expiring"]) {
    source.addEventListener(type, (event) => said.push(type + " " + (event.data?.status ?? "")));
  }
}"""
SANDBOXED = """<p></p><script type=module>
  const url = "%s";
  const { Tidings } = await import(url + "/static/tidings.js");
  const source = new Tidings(url + "/events");
  const say = (words) => { document.querySelector("p").textContent = words; };
  source.onopen = () => say("open");
  source.onmessage = (event) => say(event.data);
</script>"""
HOLD = """() => {
  const request = navigator.locks.request.bind(navigator.locks);
  const going = new Promise((done) => { window.go = done; });
  navigator.locks.request = async (...about) => { await going; return request(...about); };
}"""
BUSY = "() => { while (!document.cookie); }"  # of all tabs, read at once


@pytest.fixture(name="context")
def _context(chromium: Browser) -> Iterator[BrowserContext]:
    """A browser without anything from before; a page may not complain."""
    context = chromium.new_context()
    complaints: list[str] = []
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    yield context
    context.close()
    assert complaints == []


@pytest.fixture(name="hub", scope="module")
def _hub(serve: Callable[..., Server]) -> Server:
    """A hub that is quick to say that it is there, and to have others back."""
    return serve(TIDINGS_DEMO="0", TIDINGS_HEARTBEAT="0.2", TIDINGS_RETRY="0.1")


def tab(context: BrowserContext, server: Server, query: str = "", **options: Any) -> Page:
    """Open a tab of the hub's origin that listens."""
    page = context.new_page()
    page.goto(f"{server.url}/healthz")
    listen(page, f"/events{query}", **options)
    return page


def listen(page: Page, url: str, module: str = "/static/tidings.js", **options: Any) -> None:
    page.evaluate(START, [module, url, options])


def got(page: Page, *expected: object) -> None:
    """Await exactly these, once each and in order."""
    wanted = [str(it) for it in expected]
    with suppress(TooLate):
        page.wait_for_function(
            "(wanted) => got.length >= wanted.length",
            arg=wanted,
            timeout=PATIENCE * 1000,
        )
    assert page.evaluate("got") == wanted


def met(page: Page, condition: str, argument: Any = None) -> None:
    try:
        page.wait_for_function(condition, arg=argument, timeout=PATIENCE * 1000)
    except TooLate:
        pytest.fail(f"{condition} {argument}: {page.evaluate('[got, said, source.readyState]')}")


def is_open(*pages: Page) -> None:
    for page in pages:
        met(page, "() => source.readyState === 1")


def readers(server: Server) -> int:
    found: int = server.http.get("/console/state").json()["readers"]
    return found


@contextmanager
def publishing(server: Server, topic: str) -> Iterator[list[int]]:
    """Publish numbers all the while; the list has those that were published."""
    numbers: list[int] = []
    over = threading.Event()

    def publish() -> None:
        while not over.wait(0.005):
            server.publish(str(len(numbers)), topic=topic)
            numbers.append(len(numbers))

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield numbers
    finally:
        over.set()
        thread.join()


def test_it_is_small_and_all_its_options_have_types() -> None:
    code = MODULE.read_bytes()
    assert len(code) < 9 << 10
    assert len(gzip.compress(code, 9)) < 3 << 10
    types = MODULE.with_suffix(".d.ts").read_text()
    options = re.search(r"const {(.*?)} = options", MODULE.read_text())
    assert options
    for name in re.findall(r"(\w+)(?: =[^,]+)?,", options[1]):
        assert f"  {name}?: " in types, name


def test_pages_of_other_origins_may_import_it_and_browsers_keep_it(
    serve: Callable[..., Server],
) -> None:
    origin = "https://a.example"
    server = serve(TIDINGS_CORS_ORIGINS=origin, TIDINGS_DEMO="0")
    answer = server.http.get("/static/tidings.js", headers={"Origin": origin})
    assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert answer.headers["Access-Control-Allow-Origin"] == origin
    assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert answer.headers["Cache-Control"] == "no-cache"
    again = {"If-None-Match": answer.headers["ETag"]}
    assert server.http.get("/static/tidings.js", headers=again).status_code == 304
    types = server.http.get("/static/tidings.d.ts").headers["Content-Type"]
    assert types == "text/plain; charset=utf-8"


def test_ten_tabs_have_one_connection(
    context: BrowserContext, serve: Callable[..., Server]
) -> None:
    server = serve(TIDINGS_MAX_SUBSCRIBERS="1", TIDINGS_DEMO="0")
    tabs = [tab(context, server) for _ in range(10)]
    is_open(*tabs)
    server.http.post("/events", json=[{"data": str(number)} for number in range(50)])
    for page in tabs:
        got(page, *range(50))
        assert "error" not in str(page.evaluate("said"))
    assert (server.left("events"), readers(server)) == (0, 1)


def test_tabs_share_only_with_those_they_want_to_share_with(
    context: BrowserContext, serve: Callable[..., Server]
) -> None:
    server = serve(TIDINGS_DEMO="0")
    tabs = [tab(context, server, share=share) for share in ("ann", "bob", "ann", False)]
    is_open(*tabs)
    assert readers(server) == 3
    server.publish("for all")
    for page in tabs:
        got(page, "for all")


def test_tabs_of_two_users_share_no_connection_unless_they_say_so(
    context: BrowserContext, serve: Callable[..., Server], topic: str
) -> None:
    server = serve(TIDINGS_JWT_KEY=KEY, TIDINGS_ANONYMOUS="0")
    ends = {"mercure": {"publish": ["*"], "subscribe": ["/console/state"]}}
    server.http.headers["Authorization"] = f"Bearer {jwt.encode(ends, KEY)}"
    users = ["ann", "bob"]
    context.expose_function("mint", lambda: a_token(600, f"/{topic}/{users[0]}"))
    query = f"?topic=/{topic}/{{user}}"
    first = tab(context, server, query, minted=True)
    is_open(first)
    users.pop(0)
    second = tab(context, server, query, minted=True)
    named = [tab(context, server, query, minted=True, share="bob") for _ in range(2)]
    is_open(second, *named)
    for user in ("ann", "bob"):
        data = {"topic": f"/{topic}/{user}", "data": user, "private": "on"}
        server.http.post("/events", data=data).raise_for_status()
    got(first, "ann")
    for page in (second, *named):
        got(page, "bob")
    assert readers(server) == 3


def test_tabs_that_send_cookies_to_another_origin_share_no_connection(
    context: BrowserContext, serve: Callable[..., Server]
) -> None:
    server = serve(TIDINGS_DEMO="0")
    is_open(*[tab(context, server, credentials="include") for _ in range(2)])
    assert readers(server) == 2


def test_where_there_are_no_locks_it_has_a_connection_of_its_own(
    context: BrowserContext, serve: Callable[..., Server], hub: Server
) -> None:
    server = serve(TIDINGS_CORS_ORIGINS="null", TIDINGS_DEMO="0")
    page = context.new_page()
    page.goto(f"{hub.url}/healthz")
    page.set_content(f"<iframe sandbox=allow-scripts srcdoc='{SANDBOXED % server.url}'></iframe>")
    said = page.frame_locator("iframe").locator("p")
    expect(said).to_have_text("open")
    server.publish("in a sandbox")
    expect(said).to_have_text("in a sandbox")


def test_when_the_leading_tab_goes_the_others_go_on_without_loss_or_double(
    context: BrowserContext, hub: Server, topic: str
) -> None:
    tabs = [tab(context, hub, f"?topic={topic}") for _ in range(4)]
    is_open(*tabs)
    with publishing(hub, topic) as numbers:
        for page in tabs[:2]:  # each was the leader when it is closed
            count = len(numbers) + 20
            met(tabs[3], "count => got.length > count", count)
            page.close()
        met(tabs[3], "count => got.length > count", len(numbers) + 20)
    for page in tabs[2:]:
        got(page, *numbers)


def test_a_leader_that_is_suspended_is_replaced(
    context: BrowserContext, hub: Server, topic: str
) -> None:
    leader, other, third = (tab(context, hub, f"?topic={topic}", silence=400) for _ in range(3))
    is_open(leader, other, third)
    with publishing(hub, topic) as numbers:
        leader.evaluate(f"() => setTimeout({BUSY})")
        count = len(numbers) + 50
        met(third, "count => got.length > count", count)
        other.evaluate("document.cookie = 'wake=up'")
        count = len(numbers) + 20
        met(leader, "count => got.length > count", count)
    for page in (leader, other, third):
        got(page, *numbers)


def test_a_frozen_tab_holds_up_nobody_and_misses_nothing(
    context: BrowserContext, hub: Server, topic: str
) -> None:
    leader, other = (tab(context, hub, f"?topic={topic}", silence=800) for _ in range(2))
    is_open(leader, other)
    freezer = context.new_cdp_session(leader)
    freezer.send("Page.setWebLifecycleState", {"state": "frozen"})
    for number in range(3):
        hub.publish(str(number), topic=topic)
    got(other, 0, 1, 2)
    freezer.send("Page.setWebLifecycleState", {"state": "active"})
    got(leader, 0, 1, 2)
    hub.publish("3", topic=topic)
    got(leader, 0, 1, 2, 3)
    got(other, 0, 1, 2, 3)


def test_a_tab_that_comes_later_gets_what_its_url_asks_for_and_then_shares(
    context: BrowserContext, hub: Server, topic: str
) -> None:
    for number in range(3):
        hub.publish(str(number), topic=topic)
    first = tab(context, hub, f"?topic={topic}&last=2")
    got(first, 1, 2)
    second = tab(context, hub, f"?topic={topic}&last=2")
    got(second, 1, 2)
    with publishing(hub, topic) as numbers:
        until(lambda: hub.left(topic) == 1, "it has met the first and has closed its own")
    got(first, 1, 2, *numbers)
    got(second, 1, 2, *numbers)
    newest = [1, 2, *numbers][-2:]  # it may have been quick, so that there was one number only
    third = tab(context, hub, f"?topic={topic}&last=2")
    got(third, *newest)
    until(lambda: hub.left(topic) == 2, "nothing came, and it has closed its own")
    hub.publish("last", topic=topic)
    got(third, *newest, "last")
    assert hub.left(topic) == 2


def test_what_the_others_are_told_while_a_tab_joins_takes_nothing_from_it(
    context: BrowserContext, hub: Server, topic: str
) -> None:
    for number in range(2):
        hub.publish(str(number), topic=topic)
    leader = tab(context, hub, f"?topic={topic}&last=2")
    got(leader, 0, 1)
    later = context.new_page()
    later.goto(f"{hub.url}/healthz")
    later.evaluate(HOLD)
    listen(later, f"/events?topic={topic}&last=2")
    hub.publish("2", topic=topic)
    got(leader, 0, 1, 2)
    later.evaluate("go()")
    got(later, 1, 2)


def test_a_page_that_is_kept_for_the_way_back_misses_nothing(
    context: BrowserContext, hub: Server, topic: str
) -> None:
    leader, other = (tab(context, hub, f"?topic={topic}") for _ in range(2))
    is_open(leader, other)
    leader.evaluate("addEventListener('pageshow', (event) => { window.kept = event.persisted; })")
    hub.publish("0", topic=topic)
    got(leader, 0)
    leader.goto(f"{hub.url}/openapi.json")
    hub.publish("1", topic=topic)
    got(other, 0, 1)
    leader.go_back(wait_until="commit")
    leader.wait_for_function("window.kept", timeout=PATIENCE * 1000)  # by Chromium
    got(leader, 0, 1)
    hub.publish("2", topic=topic)
    got(leader, 0, 1, 2)
    got(other, 0, 1, 2)


def test_a_tab_that_comes_back_has_its_time_to_catch_up(
    context: BrowserContext, hub: Server, topic: str
) -> None:
    context.clock.install()
    page = tab(context, hub, f"?topic={topic}")
    is_open(page)
    hub.publish("0", topic=topic)  # from here on it counts the seconds of silence
    got(page, 0)
    page.evaluate("dispatchEvent(new Event('pagehide'))")
    other = tab(context, hub, f"?topic={topic}")
    is_open(other)
    hub.publish("1", topic=topic)
    got(other, 1)
    asked: list[Route] = []
    page.route("**/events*", lambda route: asked.insert(0, route))
    with page.expect_request("**/events*"):
        page.evaluate("dispatchEvent(new Event('pageshow'))")
    context.clock.run_for(3000)
    asked[0].continue_()
    got(page, 0, 1)


def test_it_survives_a_restart_of_the_hub_without_loss_or_double(
    context: BrowserContext, tmp_path: Path
) -> None:
    env = {"TIDINGS_BROKER_URL": f"sqlite:///{tmp_path}/log.db", "TIDINGS_RETRY": "0.1"}
    bind = ["-b", f"127.0.0.1:{free_port()}"]
    with serving(bind, {**env, "TIDINGS_DRAIN": "1"}, tmp_path / "first" / "log") as server:
        tabs = [tab(context, server) for _ in range(2)]
        is_open(*tabs)
        server.publish("before")
        got(tabs[1], "before")
        server.stop()
    for page in tabs:
        met(page, "() => source.readyState === 0 && said.includes('hub.bye ')")
    with serving(bind, env, tmp_path / "second" / "log") as again:
        again.publish("meanwhile")
        is_open(*tabs)
        again.publish("after")
        for page in tabs:
            got(page, "before", "meanwhile", "after")
            assert "hub.reset " not in page.evaluate("said")


def test_all_tabs_are_told_that_events_were_missed(
    context: BrowserContext, hub: Server, topic: str
) -> None:
    query = f"?topic={topic}&last_event_id=1-1"
    tabs = [tab(context, hub, query) for _ in range(2)]
    for page in tabs:
        met(page, "() => said.includes('hub.reset ')")


def test_a_dead_link_is_noticed_by_its_silence(
    context: BrowserContext, hub: Server, topic: str
) -> None:
    page = tab(context, hub, f"?topic={topic}", silence=800)
    is_open(page)
    hub.publish("0", topic=topic)
    got(page, 0)
    os.kill(hub.worker, signal.SIGSTOP)  # its kernel keeps the connections, and nothing comes
    try:
        met(page, "() => said.includes('error ')")
    finally:
        os.kill(hub.worker, signal.SIGCONT)
    hub.publish("1", topic=topic)
    got(page, 0, 1)


def test_it_is_back_as_soon_as_the_network_is(
    context: BrowserContext, hub: Server, topic: str
) -> None:
    page = tab(context, hub, f"?topic={topic}")
    is_open(page)
    context.set_offline(True)
    page.evaluate("dispatchEvent(new Event('online'))")  # what was open is tried again
    met(page, "() => said.includes('error ')")
    hub.publish("0", topic=topic)
    context.set_offline(False)
    got(page, 0)


def a_token(seconds: float, topic: str) -> str:
    claims = {"mercure": {"subscribe": [topic]}, "exp": time.time() + seconds}
    return jwt.encode(claims, KEY, "HS256")


def test_a_token_is_replaced_before_it_ends_without_loss_or_double(
    context: BrowserContext, serve: Callable[..., Server], topic: str
) -> None:
    server = serve(TIDINGS_JWT_KEY=KEY, TIDINGS_ANONYMOUS="0", TIDINGS_RETRY="0.1")
    server.http.headers["Authorization"] = "Bearer " + jwt.encode(
        {"mercure": {"publish": ["*"]}}, KEY, "HS256"
    )
    ends = [8, 600]  # seconds, from when the page asks
    context.expose_function("mint", lambda: a_token(ends.pop(0), topic))
    page = tab(context, server, f"?topic={topic}", minted=True)
    with publishing(server, topic) as numbers:
        is_open(page)
        met(page, "() => said.includes('hub.expiring ')")
        met(page, "() => said.filter((it) => it === 'hub.open ').length === 2")
    first = int(page.evaluate("got[0]"))
    got(page, *numbers[first:])
    assert server.ended("token_expired") == 0


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
