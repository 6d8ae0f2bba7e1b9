"""The recipe for publishing when a page is left, in Chromium, from another origin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.doc_pages import blocks
from support.ports import free_port
from support.tokens import KEY, token

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Browser

    from support.server import Server

PORT = free_port()
APP = f"http://localhost:{PORT}"  # the same hub, and another origin than 127.0.0.1
READER = {"Authorization": f"Bearer {token(subscribe=['*'])}"}


@pytest.mark.parametrize("origins", [APP, "*"], ids=["listed", "any"])
def test_a_page_of_another_origin_publishes_when_it_is_left(
    serve: Callable[..., Server], chromium: Browser, origins: str
) -> None:
    port = PORT if origins == APP else free_port()
    hub = serve("-b", f"127.0.0.1:{port}", TIDINGS_JWT_KEY=KEY, TIDINGS_CORS_ORIGINS=origins)
    [code] = blocks("guides/publish.md", "Publish when a page is left", "js")
    script = f"const token = '{token(publish=['/left'])}';{code}".replace(
        "https://hub.example", hub.url
    )
    page = chromium.new_page()
    with hub.listen(topic="/left", headers=READER) as stream:
        page.goto(f"http://localhost:{port}/healthz")
        page.evaluate(f"() => {{{script}}}")
        page.goto("about:blank")
        assert stream.take(1) == ["/healthz"]
    page.close()
