"""Tabs of a browser that use the module, and what they got."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from playwright.sync_api import TimeoutError as TooLate

from support.tokens import KEY
from support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import BrowserContext, Page

    from support.server import Server

START = """async ([module, url, options]) => {
  const { Tidings } = await import(module);
  const token = options.minted && (() => mint());
  window.got = [];
  window.said = [];
  window.source = new Tidings(url, { ...options, token });
  source.onmessage = (event) => got.push(event.data);
  const control = ["open", "reset", "bye", "expiring"].map((name) => `hub.${name}`);
  for (const type of ["open", "error", "ended", ...control]) {
    source.addEventListener(type, (event) => said.push(type + " " + (event.data?.status ?? "")));
  }
}"""


def tab(
    context: BrowserContext,
    server: Server,
    query: str = "",
    path: str = "/events",
    **options: Any,
) -> Page:
    """Open a tab of the hub's origin that listens."""
    page = context.new_page()
    page.goto(f"{server.url}/healthz")
    listen(page, f"{path}{query}", **options)
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


def subscribers(server: Server) -> int:
    found: int = server.http.get("/console/state").json()["readers"]
    return found


@contextmanager
def publishing(server: Server, topic: str) -> Iterator[list[int]]:
    """Publish numbers all the while; the list has those that were published."""
    numbers: list[int] = []
    over = threading.Event()

    def publish() -> None:
        while not over.wait(0.02):
            server.publish(str(len(numbers)), topic=topic)
            numbers.append(len(numbers))

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield numbers
    finally:
        over.set()
        thread.join()


def a_token(seconds: float, topic: str) -> str:
    claims = {"mercure": {"subscribe": [topic]}, "exp": time.time() + seconds}
    return jwt.encode(claims, KEY, "HS256")
