"""Tabs that share one connection: who leads, who joins, who shares with whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jwt
import pytest
from playwright.sync_api import expect

from support.tabs import a_token, got, is_open, listen, met, publishing, subscribers, tab
from support.tokens import KEY
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import BrowserContext

    from support.server import Server

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
    assert (server.left("events"), subscribers(server)) == (0, 1)


@pytest.fixture(name="shared", scope="module")
def _shared(serve: Callable[..., Server]) -> Server:
    return serve(TIDINGS_CORS_ORIGINS="null", TIDINGS_DEMO="0")


@pytest.fixture(name="server")
def _server(shared: Server) -> Server:
    """A hub without subscribers."""
    until(lambda: subscribers(shared) == 0, "the last test's tabs have left")
    return shared


def test_tabs_share_only_with_those_they_want_to_share_with(
    context: BrowserContext, server: Server
) -> None:
    tabs = [tab(context, server, share=share) for share in ("ann", "bob", "ann", False)]
    is_open(*tabs)
    assert subscribers(server) == 3
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
    assert subscribers(server) == 3


def test_tabs_that_send_cookies_to_another_origin_share_no_connection(
    context: BrowserContext, server: Server
) -> None:
    is_open(*[tab(context, server, credentials="include") for _ in range(2)])
    assert subscribers(server) == 2


def test_where_there_are_no_locks_it_has_a_connection_of_its_own(
    context: BrowserContext, server: Server, hub: Server
) -> None:
    page = context.new_page()
    page.goto(f"{hub.url}/healthz")
    page.set_content(f"<iframe sandbox=allow-scripts srcdoc='{SANDBOXED % server.url}'></iframe>")
    said = page.frame_locator("iframe").locator("p")
    expect(said).to_have_text("open")
    server.publish("in a sandbox")
    expect(said).to_have_text("in a sandbox")


def test_another_tab_leads_when_the_leader_closes(
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


def test_a_later_tab_gets_its_own_history_and_then_shares(
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


def test_tabs_begin_with_the_newest_event_of_each_topic_and_then_share(
    context: BrowserContext, hub: Server, topic: str
) -> None:
    for number, name in enumerate("aab"):
        hub.publish(str(number), topic=f"{topic}/{name}")
    first, second = (tab(context, hub, f"?topic={topic}/{{n}}&latest=1") for _ in range(2))
    for each in (first, second):
        got(each, 1, 2)
    until(lambda: hub.left(f"{topic}/{{n}}") == 1, "nothing came, and it has closed its own")
    hub.publish("3", topic=f"{topic}/a")
    for each in (first, second):
        got(each, 1, 2, 3)


def test_a_tab_that_joins_misses_no_event(context: BrowserContext, hub: Server, topic: str) -> None:
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
