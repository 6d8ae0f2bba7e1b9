"""Fixtures of tests in a browser: Chromium, and a page in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect, sync_playwright

from support.programs import need
from support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

    from support.server import Server

expect.set_options(timeout=PATIENCE * 1000)

QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic"]


@pytest.fixture(name="chromium", scope="session")
def _chromium() -> Iterator[Browser]:
    """A real browser, shared by all tests: each has a context of its own. It is Chromium without
    the windows around its pages, which take more CPU than the pages of tests.
    """
    path = need("chromium-headless-shell")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(name="page")
def _page(chromium: Browser) -> Iterator[Page]:
    """A page that may not complain: errors and refusals of the policy fail the test."""
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(PATIENCE * 1000)
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
    yield page
    context.close()
    refused = ("Failed to load", "CORS policy")  # by the hub, as a test may want it
    assert [text for text in complaints if not any(it in text for it in refused)] == []


def show(page: Page, server: Server, html: str, url: str = "http://localhost:8000") -> None:
    """Open a page of the hub's own origin.

    :param url: how the page names the hub.
    """
    body = f"<!doctype html><meta charset=utf-8>{html.replace(url, server.url)}"
    page.route(f"{server.url}/page", lambda it: it.fulfill(body=body, content_type="text/html"))
    page.goto(f"{server.url}/page")
