"""The module with another server, which refuses, and cuts its frames anywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.tabs import listen, met
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import BrowserContext, Page

    from support.plain_server import Plain
    from support.server import Server


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
    assert server.asked[:2] == [
        ("/stream?end=&control=1", None),
        ("/stream?end=&control=1&last_event_id=one", "one"),
    ]
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
