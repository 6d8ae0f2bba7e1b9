"""A hub for the module's tests, and a context for their tabs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.plain_server import plain_server
from support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, BrowserContext, Page

    from support.plain_server import Plain
    from support.server import Server


@pytest.fixture(name="context")
def _context(chromium: Browser) -> Iterator[BrowserContext]:
    """A browser without anything from before; a page may not complain."""
    context = chromium.new_context()
    context.set_default_timeout(PATIENCE * 1000)
    complaints: list[str] = []
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    yield context
    context.close()
    assert complaints == []


@pytest.fixture(name="hub", scope="module")
def _hub(serve: Callable[..., Server]) -> Server:
    """A hub that is quick to say that it is there, and to have others back."""
    return serve(TIDINGS_DEMO="0", TIDINGS_HEARTBEAT="0.2", TIDINGS_RETRY="0.1")


@pytest.fixture(name="plain")
def _plain() -> Iterator[tuple[str, type[Plain]]]:
    with plain_server() as server:
        yield server


@pytest.fixture(name="beside")
def _beside(context: BrowserContext, plain: tuple[str, type[Plain]]) -> tuple[Page, type[Plain]]:
    """A page of a server that is no hub, which also has the module, as /tidings.js."""
    url, handler = plain
    page = context.new_page()
    page.goto(url)
    return page, handler
