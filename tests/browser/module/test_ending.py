"""What the native EventSource and the module do when a topic has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.tabs import got, is_open, listen, met, subscribers, tab
from support.waiting import until

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

    from support.server import Server

NATIVE = """(url) => {
  window.got = [];
  window.said = [];
  window.source = new EventSource(url);
  source.onmessage = (event) => got.push(event.data);
  source.onopen = () => said.push("open");
}"""


def test_a_native_event_source_stops_by_itself(
    context: BrowserContext, hub: Server, topic: str
) -> None:
    page = context.new_page()
    page.goto(f"{hub.url}/healthz")
    page.evaluate(NATIVE, f"/events?topic={topic}")
    is_open(page)
    hub.publish("one", topic=topic)
    hub.publish("last", topic=topic, end="1", id=f"end of {topic}")
    got(page, "one", "last")
    met(page, "() => source.readyState === 2")
    assert page.evaluate("said") == ["open"]
    for path in ("/events", "/.well-known/mercure"):
        page.evaluate(NATIVE, f"{path}?topic={topic}")
        met(page, "() => source.readyState === 2")
        assert page.evaluate("said") == []
        page.evaluate(NATIVE, f"{path}?topic={topic}&last_event_id=earliest")
        got(page, "one", "last")
        met(page, "() => source.readyState === 2")
    until(lambda: subscribers(hub) == 0, "all have left")


@pytest.mark.parametrize("share", [True, False])
def test_the_module_stops_in_each_tab_and_says_so(
    context: BrowserContext, hub: Server, topic: str, *, share: bool
) -> None:
    tabs = [tab(context, hub, f"?topic={topic}", share=share) for _ in range(3)]
    is_open(*tabs)
    hub.publish("one", topic=topic)
    hub.publish("named", topic=topic, type="ended")
    hub.publish("last", topic=topic, end="1")
    for page in tabs:
        met(page, "() => source.readyState === 2")
        got(page, "one", "last")
        said = page.evaluate("said.filter((it) => it !== 'hub.open ')")
        # A tab may have to lead before the last leader's report comes; the hub then answers 204.
        assert said == ["open ", "hub.bye ", "ended "] or (share and said == ["open ", "ended "])
    until(lambda: subscribers(hub) == 0, "no tab comes back")
    late = tabs[0]
    listen(late, f"/events?topic={topic}", share=share)
    met(late, "() => said.includes('ended ')")
    assert late.evaluate("said") == ["ended "]
    listen(late, f"/events?topic={topic}&last=9", share=share)
    met(late, "() => said.includes('ended ')")
    got(late, "one", "last")
