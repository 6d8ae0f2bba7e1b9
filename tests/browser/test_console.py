"""The console in real Chromium: what operators see, and what it asks of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import jwt
import pytest
from playwright.sync_api import expect

from support.project import ROOT
from support.tokens import KEY

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Locator, Page

    from support.server import Server

SET_HIDDEN = """(hidden) => {
  Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""
# In one call, because the page asks once a second while it is visible.
HIDE_AND_RECORD = f"""() => {{
  const ask = fetch;
  window.asked = [];
  window.fetch = (...what) => {{ asked.push(what); return ask(...what); }};
  ({SET_HIDDEN})(true);
}}"""


def subscribe(page: Page, topics: str, start: str = "now", value: str = "") -> None:
    page.get_by_label("Topics").fill(topics)
    page.get_by_label("Start").select_option(start)
    if value:
        page.locator("#start-value").fill(value)
    page.get_by_label("Topics").press("Enter")
    expect(page.locator("#subscription")).to_have_text("Subscribed.")


def rows(page: Page) -> Locator:
    return page.locator("#events").get_by_role("row")


def cells(page: Page, row: int) -> list[str]:
    texts = rows(page).nth(row).get_by_role("cell").all_inner_texts()
    return [text.replace("\u00a0", " ") for text in texts]


def test_it_shows_what_an_event_is_and_its_data_as_text(
    page: Page, server: Server, topic: str
) -> None:
    page.goto(f"{server.url}/console")
    subscribe(page, topic)
    markup = "<img src=x onerror=alert(1)>"
    server.publish("ünïcode", topic=topic, type="named", id="my own")
    server.publish(markup + "\n" * 3 + "x" * 100_000, topic=[topic, "another"])
    expect(rows(page)).to_have_count(2)
    age, its_topic, its_type, size, data, its_id = cells(page, 1)
    assert re.fullmatch(r"\d+ s", age)
    assert [its_topic, its_type, size, data, its_id] == [topic, "named", "9 B", "ünïcode", "my own"]
    newest = rows(page).nth(0)
    assert cells(page, 0)[1:4] == [f"{topic} +1", "", "97.7 KB"]
    newest.locator("summary").press("Enter")
    expect(newest.locator("pre")).to_contain_text("… 80,031 more characters")
    assert markup in newest.inner_text()
    assert page.locator("#events img").count() == 0


def test_it_starts_at_the_chosen_position(page: Page, server: Server, topic: str) -> None:
    ids = [server.publish(str(number), topic=topic) for number in range(5)]
    page.goto(f"{server.url}/console")
    for start, value, count in [
        ("with the last", "2", 2),
        ("after an id", ids[0], 4),
        ("since a time", "15m", 5),
        ("with the oldest", "", 5),
    ]:
        subscribe(page, f"{topic} and-another", start, value)
        expect(rows(page)).to_have_count(count)
        assert cells(page, 0)[4] == "4"
    subscribe(page, topic, "after an id", "unknown")
    expect(rows(page)).to_have_text(["The hub does not know this id. New events follow."])


def test_it_says_that_connects_and_disconnects_were_missed(page: Page, server: Server) -> None:
    reset = 'event: hub.reset\ndata: {"reason": "presence"}\n\n'
    page.route("**/events?*", lambda it: it.fulfill(body=reset, content_type="text/event-stream"))
    page.goto(f"{server.url}/console")
    expect(rows(page).first).to_have_text("Some connects and disconnects were missed.")


def test_thousands_of_events_leave_500_rows_and_a_pause_holds_them(
    page: Page, server: Server, topic: str
) -> None:
    page.goto(f"{server.url}/console")
    subscribe(page, topic)
    events = [{"topic": topic, "data": str(number)} for number in range(5000)]
    server.http.post("/events", json=events)
    expect(page.locator("#count")).to_have_text("5,000 events, the newest 500 are shown")
    expect(rows(page)).to_have_count(500)
    assert cells(page, 0)[4] == "4999"
    page.get_by_role("button", name="Pause").press("Enter")
    server.http.post("/events", json=events[:7])
    expect(page.locator("#subscription")).to_have_text("Paused, 7 more events.")
    assert cells(page, 0)[4] == "4999"
    page.get_by_role("button", name="Resume").press("Enter")
    expect(page.locator("#subscription")).to_have_text("Subscribed.")
    expect(rows(page).nth(0)).to_contain_text("6")
    page.get_by_role("button", name="Clear").press("Enter")
    expect(page.get_by_text("Waiting for events…")).to_be_visible()
    page.get_by_role("button", name="Stop").press("Enter")
    expect(page.locator("#subscription")).to_have_text("Not subscribed.")


def test_it_shows_subscribers_workers_and_the_event_log(
    page: Page, serve: Callable[..., Server]
) -> None:
    server = serve(TIDINGS_DEMO="0", WEB_CONCURRENCY="2")
    page.goto(f"{server.url}/console")
    with server.listen(topic="x"), server.listen(topic="y"):
        expect(page.locator("#plot-subscribers .value")).to_have_text("3")  # and this page's own
        expect(page.locator("#workers li")).to_have_count(2)
    expect(page.locator("#plot-subscribers .value")).to_have_text("1")
    position = server.publish("x")
    expect(page.locator("#log-head")).to_contain_text(position)
    expect(page.locator("#log-name")).to_contain_text("sqlite:")
    expect(page.locator("#log-limits")).to_have_text(re.compile("1,000,000 events, 7.d, 1.GB"))
    expect(page.locator("#totals")).to_contain_text("Streams ended: client left2")
    plot = page.locator("#plot-subscribers")
    expect(plot.locator("svg")).to_have_attribute("aria-label", re.compile("to 3$"))
    assert plot.locator("path.line").get_attribute("d")
    server.stop()
    expect(page.locator("#state")).to_have_text("The hub cannot be reached, retrying…")
    expect(page.locator("#plot-subscribers .value")).to_have_text("\N{EN DASH}")


def test_it_asks_nothing_while_it_is_hidden(page: Page, server: Server) -> None:
    page.clock.install()
    page.goto(f"{server.url}/console")
    expect(page.locator("#state")).to_have_text("Connected")
    page.evaluate(HIDE_AND_RECORD)
    page.clock.run_for(10_000)
    assert page.evaluate("asked") == []
    with page.expect_request("**/console/state"):
        page.evaluate(SET_HIDDEN, arg=False)


def test_it_publishes_and_shows_the_id_or_the_error(page: Page, server: Server, topic: str) -> None:
    page.goto(f"{server.url}/console")
    form = page.locator("#publish")
    with server.listen(topic=topic) as stream:
        form.get_by_label("Topic", exact=True).fill(topic)
        form.get_by_label("Type").fill("note")
        form.get_by_label("Id").fill("mine")
        form.get_by_label("Data").fill("two\nlines")
        form.get_by_role("button").press("Enter")
        expect(page.locator("#published")).to_have_text("Published with the id mine")
        [message] = stream.messages(1)
        assert (message.data, message.type, message.id) == ("two\nlines", "note", "mine")
    form.get_by_label("Data").fill("other")
    form.get_by_role("button").press("Enter")
    expect(page.locator("#error")).to_contain_text("id")
    expect(page.locator("#published")).to_be_hidden()


def test_the_console_needs_a_token_and_puts_it_in_no_url(
    page: Page, serve: Callable[..., Server], topic: str
) -> None:
    hub = serve(TIDINGS_JWT_KEY=KEY)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{hub.url}/console")
    expect(page.locator("#state")).to_have_text("Token required")
    field = page.get_by_label("Token (kept in this tab only)")
    expect(field).to_be_focused()
    field.fill(jwt.encode({"mercure": {"subscribe": [topic]}}, KEY))
    page.keyboard.press("Enter")
    expect(page.locator("#token-why")).to_contain_text("/console/state")
    every = {"publish": ["*"], "subscribe": ["*"]}
    field.fill(jwt.encode({"mercure": every}, KEY))
    page.keyboard.press("Enter")
    expect(page.locator("#state")).to_have_text("Connected")
    subscribe(page, topic)
    form = page.locator("#publish")
    form.get_by_label("Topic", exact=True).fill(topic)
    form.get_by_label("Data").fill("secret")
    form.get_by_label("Private").check()
    form.get_by_role("button").press("Enter")
    expect(rows(page)).to_contain_text(["secret"])
    expect(rows(page)).to_contain_text(["private"])
    page.reload()
    expect(page.locator("#state")).to_have_text("Connected")
    assert not [url for url in asked if "eyJ" in url]


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 800)])
def test_it_needs_no_sideways_scrolling(
    page: Page, server: Server, topic: str, width: int, height: int
) -> None:
    page.set_viewport_size({"width": width, "height": height})
    page.goto(f"{server.url}/console")
    subscribe(page, topic)
    server.publish("long" * 500, topic=topic, type="type" * 50, id=f"{topic:i<128}"[:128])
    expect(rows(page)).to_have_count(1)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.querySelector('.scroll').scrollWidth") <= width


def luminance(color: str) -> float:
    digits = color if len(color) == 6 else "".join(2 * it for it in color)
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [it / 12.92 if it <= 0.04045 else ((it + 0.055) / 1.055) ** 2.4 for it in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colors_have_enough_contrast(scheme: int) -> None:
    static = ROOT / "webapp" / "static"
    colors: dict[str, str] = {}
    for name in ("page.css", "console.css"):
        roots = re.findall(r":root \{(.*?)\}", (static / name).read_text(), re.DOTALL)
        colors |= dict(re.findall(r"--([\w-]+): #(\w+);", roots[scheme]))
    for ground in ("page", "panel", "raised"):
        for text in ("ink", "quiet", "good", "wait", "bad"):
            assert contrast(colors[text], colors[ground]) >= 4.5, (text, ground)
        assert contrast(colors["edge"], colors[ground]) >= 3, ground
    assert contrast(colors["ink"], colors["fresh"]) >= 4.5
    assert contrast(colors["on-good"], colors["good"]) >= 4.5
    for series in ("subscribers", "published", "delivered"):
        assert contrast(colors[series], colors["raised"]) >= 4.5
