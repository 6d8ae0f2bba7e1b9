"""Restarts, outages, frozen pages and tokens that end: nothing is lost or doubled."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import jwt
import pytest

from support.browser import QUIET
from support.ports import free_port
from support.programs import need
from support.server import serving
from support.tabs import a_token, got, is_open, met, publishing, tab
from support.tokens import KEY
from support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, BrowserContext, Route

    from support.server import Server

MERCURE = "/.well-known/mercure"


@pytest.fixture(name="windows")
def _windows(chromium: Browser) -> Iterator[BrowserContext]:
    """Chromium with windows, as people have it: only these keep pages for the way back."""
    path, unlike = need("chromium"), ["--disable-back-forward-cache"]
    browser = chromium.browser_type.launch(
        executable_path=path, args=QUIET, ignore_default_args=unlike
    )
    yield browser.new_context()
    browser.close()


def test_a_page_that_is_kept_for_the_way_back_misses_nothing(
    windows: BrowserContext, hub: Server, topic: str
) -> None:
    leader, other = (tab(windows, hub, f"?topic={topic}") for _ in range(2))
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


def test_on_mercures_path_it_gets_control_events_and_misses_nothing(
    context: BrowserContext, serve: Callable[..., Server], topic: str
) -> None:
    server = serve(TIDINGS_MAX_AGE="1", TIDINGS_RETRY="0.1", TIDINGS_DEMO="0")
    tabs = [tab(context, server, f"?topic={topic}", path=MERCURE) for _ in range(2)]
    is_open(*tabs)
    server.publish("0", topic=topic)
    until(lambda: server.ended("max_age") > 1, "streams end")
    server.publish("1", topic=topic)
    for page in tabs:
        got(page, 0, 1)
        said = page.evaluate("said")
        assert {"hub.open ", "hub.bye "} <= set(said)
        assert "hub.reset " not in said
    lost = tab(context, server, f"?topic={topic}&last_event_id=1-1", path=MERCURE)
    met(lost, "() => said.includes('hub.reset ')")


def test_all_tabs_get_the_reset_when_events_were_missed(
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


def test_a_token_is_replaced_before_it_ends_without_loss_or_double(
    context: BrowserContext, serve: Callable[..., Server], topic: str
) -> None:
    server = serve(TIDINGS_JWT_KEY=KEY, TIDINGS_ANONYMOUS="0", TIDINGS_RETRY="0.1")
    server.http.headers["Authorization"] = "Bearer " + jwt.encode(
        {"mercure": {"publish": ["*"]}}, KEY, "HS256"
    )
    ends = [16, 600]  # seconds, from when the page asks
    context.expose_function("mint", lambda: a_token(ends.pop(0), topic))
    page = tab(context, server, f"?topic={topic}", minted=True)
    with publishing(server, topic) as numbers:
        is_open(page)
        met(page, "() => said.includes('hub.expiring ')")
        met(page, "() => said.filter((it) => it === 'hub.open ').length === 2")
    first = int(page.evaluate("got[0]"))
    got(page, *numbers[first:])
    assert server.ended("token_expired") == 0
