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

LOOK = """(hidden) => {
  Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""
# In one breath, as it asks once a second until nobody looks.
NOTE = f"""() => {{
  const ask = fetch;
  window.asked = [];
  window.fetch = (...what) => {{ asked.push(what); return ask(...what); }};
  ({LOOK})(true);
}}"""


def watch(page: Page, topics: str, begin: str = "now", value: str = "") -> None:
    page.get_by_label("Topics").fill(topics)
    page.get_by_label("Begin").select_option(begin)
    if value:
        page.locator("#from").fill(value)
    page.get_by_label("Topics").press("Enter")
    expect(page.locator("#watching")).to_have_text("Watching.")


def rows(page: Page) -> Locator:
    return page.locator("#events").get_by_role("row")


def cells(page: Page, row: int) -> list[str]:
    texts = rows(page).nth(row).get_by_role("cell").all_inner_texts()
    return [text.replace("\u00a0", " ") for text in texts]


def test_it_shows_what_an_event_is_and_its_data_as_text(
    page: Page, server: Server, topic: str
) -> None:
    page.goto(f"{server.url}/console")
    watch(page, topic)
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
    expect(newest.locator("pre")).to_contain_text("… 80,031 characters more")
    assert markup in newest.inner_text()
    assert page.locator("#events img").count() == 0


def test_it_begins_where_it_is_told_to(page: Page, server: Server, topic: str) -> None:
    ids = [server.publish(str(number), topic=topic) for number in range(5)]
    page.goto(f"{server.url}/console")
    for begin, value, count in [
        ("with the last", "2", 2),
        ("after the id", ids[0], 4),
        ("since", "15m", 5),
        ("with the earliest", "", 5),
    ]:
        watch(page, f"{topic} and-another", begin, value)
        expect(rows(page)).to_have_count(count)
        assert cells(page, 0)[4] == "4"
    watch(page, topic, "after the id", "unknown")
    expect(rows(page)).to_have_text(["The hub does not know this id: what comes from now on."])


def test_it_says_what_was_missed_of_who_came_and_went(page: Page, server: Server) -> None:
    reset = 'event: hub.reset\ndata: {"reason": "presence"}\n\n'
    page.route("**/events?*", lambda it: it.fulfill(body=reset, content_type="text/event-stream"))
    page.goto(f"{server.url}/console")
    expect(rows(page).first).to_have_text("Some of those who came or went were missed.")


def test_thousands_of_events_leave_500_rows_and_a_pause_holds_them(
    page: Page, server: Server, topic: str
) -> None:
    page.goto(f"{server.url}/console")
    watch(page, topic)
    events = [{"topic": topic, "data": str(number)} for number in range(5000)]
    server.http.post("/events", json=events)
    expect(page.locator("#count")).to_have_text("5,000 events, the newest 500 are shown")
    expect(rows(page)).to_have_count(500)
    assert cells(page, 0)[4] == "4999"
    page.get_by_role("button", name="Pause").press("Enter")
    server.http.post("/events", json=events[:7])
    expect(page.locator("#watching")).to_have_text("Paused; 7 more.")
    assert cells(page, 0)[4] == "4999"
    page.get_by_role("button", name="Pause").press("Enter")
    expect(page.locator("#watching")).to_have_text("Watching.")
    expect(rows(page).nth(0)).to_contain_text("6")
    page.get_by_role("button", name="Clear").press("Enter")
    expect(page.get_by_text("No event yet.")).to_be_visible()
    page.get_by_role("button", name="Stop").press("Enter")
    expect(page.locator("#watching")).to_have_text("Not watching.")


def test_it_tells_of_readers_workers_and_the_log(page: Page, serve: Callable[..., Server]) -> None:
    server = serve(TIDINGS_DEMO="0", WEB_CONCURRENCY="2")
    page.goto(f"{server.url}/console")
    with server.listen(topic="x"), server.listen(topic="y"):
        expect(page.locator("#plot-readers .value")).to_have_text("3")  # and this page's own
        expect(page.locator("#workers li")).to_have_count(2)
    expect(page.locator("#plot-readers .value")).to_have_text("1")
    position = server.publish("x")
    expect(page.locator("#log-head")).to_contain_text(position)
    expect(page.locator("#log-name")).to_contain_text("sqlite:")
    expect(page.locator("#log-keeps")).to_have_text(re.compile("1,000,000 events, 7.d, 1.GB"))
    expect(page.locator("#totals")).to_contain_text("Ended: client left2")
    expect(page.locator("#plot-readers svg")).to_have_attribute("aria-label", re.compile("to 3$"))
    assert page.locator("#plot-readers path.line").get_attribute("d")
    server.stop()
    expect(page.locator("#state")).to_have_text("The hub cannot be reached; trying again…")
    expect(page.locator("#plot-readers .value")).to_have_text("\N{EN DASH}")


def test_it_asks_nothing_while_nobody_looks(page: Page, server: Server) -> None:
    page.clock.install()
    page.goto(f"{server.url}/console")
    expect(page.locator("#state")).to_have_text("Live")
    page.evaluate(NOTE)
    page.clock.run_for(10_000)
    assert page.evaluate("asked") == []
    with page.expect_request("**/console/state"):
        page.evaluate(LOOK, arg=False)


def test_it_publishes_and_says_what_became_of_it(page: Page, server: Server, topic: str) -> None:
    page.goto(f"{server.url}/console")
    form = page.locator("#publish")
    with server.listen(topic=topic) as stream:
        form.get_by_label("Topic", exact=True).fill(topic)
        form.get_by_label("Type").fill("note")
        form.get_by_label("Id").fill("mine")
        form.get_by_label("Data").fill("two\nlines")
        form.get_by_role("button").press("Enter")
        expect(page.locator("#published")).to_have_text("Published as mine")
        [message] = stream.messages(1)
        assert (message.data, message.type, message.id) == ("two\nlines", "note", "mine")
    form.get_by_label("Data").fill("other")
    form.get_by_role("button").press("Enter")
    expect(page.locator("#wrong")).to_contain_text("id")
    expect(page.locator("#published")).to_be_hidden()


def test_the_console_needs_a_token_and_puts_it_in_no_url(
    page: Page, serve: Callable[..., Server], topic: str
) -> None:
    hub = serve(TIDINGS_JWT_KEY=KEY)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{hub.url}/console")
    expect(page.locator("#state")).to_have_text("The hub wants a token")
    field = page.get_by_label("Token, kept in this tab only")
    expect(field).to_be_focused()
    field.fill(jwt.encode({"mercure": {"subscribe": [topic]}}, KEY))
    page.keyboard.press("Enter")
    expect(page.locator("#token-why")).to_contain_text("/console/state")
    every = {"publish": ["*"], "subscribe": ["*"]}
    field.fill(jwt.encode({"mercure": every}, KEY))
    page.keyboard.press("Enter")
    expect(page.locator("#state")).to_have_text("Live")
    watch(page, topic)
    form = page.locator("#publish")
    form.get_by_label("Topic", exact=True).fill(topic)
    form.get_by_label("Data").fill("secret")
    form.get_by_label("Private").check()
    form.get_by_role("button").press("Enter")
    expect(rows(page)).to_contain_text(["secret"])
    expect(rows(page)).to_contain_text(["private"])
    page.reload()
    expect(page.locator("#state")).to_have_text("Live")
    assert not [url for url in asked if "eyJ" in url]


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 800)])
def test_it_needs_no_sideways_scrolling(
    page: Page, server: Server, topic: str, width: int, height: int
) -> None:
    page.set_viewport_size({"width": width, "height": height})
    page.goto(f"{server.url}/console")
    watch(page, topic)
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
def test_everything_can_be_told_from_its_ground(scheme: int) -> None:
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
    for series in ("readers", "published", "delivered"):
        assert contrast(colors[series], colors["raised"]) >= 4.5
