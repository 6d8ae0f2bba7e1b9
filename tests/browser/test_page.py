"""The live page, and other people's pages, in real Chromium."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import jwt
import pytest
from playwright.sync_api import expect

from support.curl import curl_output, curl_until
from support.ports import free_port
from support.programs import need
from support.tokens import KEY
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

    from support.server import Server


def state(page: Page, words: str) -> None:
    expect(page.get_by_role("status")).to_have_text(words)


def test_the_page_appends_each_message_as_the_tutorial_did(
    page: Page, server: Server, topic: str
) -> None:
    page.goto(f"{server.url}/?topic={topic}")
    state(page, "Connected")
    expect(page.get_by_text("Waiting for events")).to_be_visible()
    markup = ["<img src=x onerror=alert(1)> & co", "<script>alert(1)</script>"]
    for data in ("hello", "two\nlines", *markup, ""):
        server.publish(data, topic=topic)
    server.publish("named, so not a message", topic=topic, type="other")
    server.publish("last", topic=topic)
    expect(page.locator("#events li")).to_have_text(
        [
            "New event: hello",
            re.compile(r"New event: two\s+lines"),
            *(f"New event: {data}" for data in markup),
            re.compile(r"New event:\s*$"),
            "New event: last",
        ]
    )
    expect(page.get_by_text("Waiting for events")).to_be_hidden()
    assert page.locator("#events :is(img, script)").count() == 0


def test_the_page_shows_the_demo_of_an_unconfigured_hub(
    page: Page, serve: Callable[..., Server]
) -> None:
    page.goto(serve().url)
    expect(page.locator("#events li").first).to_have_text("New event: Event 0")
    expect(page.locator("#events li").nth(1)).to_have_text("New event: Event 1")


def test_the_page_subscribes_to_the_default_topic_and_shows_both_curls(
    page: Page, server: Server
) -> None:
    page.goto(server.url)
    state(page, "Connected")
    server.publish("for the page")
    expect(page.locator("#events li").last).to_have_text("New event: for the page")
    expect(page.locator("#curl-subscribe")).to_have_text(f"curl -N {server.url}/events")
    expect(page.locator("#curl-publish")).to_have_text(f"curl -d data=hello {server.url}/events")


def test_the_page_survives_a_maximal_age_without_losing_an_event(
    page: Page, serve: Callable[..., Server]
) -> None:
    server = serve(TIDINGS_MAX_AGE="1", TIDINGS_RETRY="0.1")
    page.goto(server.url)
    state(page, "Connected")
    published = 0
    while server.ended("max_age") < 2:  # publishing goes on over several connections
        server.publish(str(published))
        published += 1
        page.wait_for_timeout(50)
    expected = [f"New event: {number}" for number in range(published)]
    expect(page.locator("#events li")).to_have_text(expected)


def test_the_page_shows_outages_and_missed_events(page: Page, serve: Callable[..., Server]) -> None:
    address = f"127.0.0.1:{free_port()}"
    server = serve("-b", address, TIDINGS_DRAIN="2", TIDINGS_RETRY="0.1")
    page.goto(f"http://{address}")
    state(page, "Connected")
    server.publish("before")
    expect(page.locator("#events li")).to_have_count(1)
    server.stop()
    state(page, "Disconnected by the hub, reconnecting…")
    again = serve("-b", address, TIDINGS_DEMO="0")
    expect(page.locator("#events .notice")).to_contain_text("missed")
    state(page, "Connected")
    again.publish("after")
    expect(page.locator("#events li").last).to_have_text("New event: after")


def test_the_page_keeps_the_newest_500(page: Page, server: Server, topic: str) -> None:
    page.goto(f"{server.url}/?topic={topic}")
    state(page, "Connected")
    events = [{"topic": topic, "data": str(number)} for number in range(600)]
    server.http.post("/events", json=events)
    expect(page.locator("#events li").last).to_have_text("New event: 599")
    expect(page.locator("#events li")).to_have_count(500)


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 800)])
def test_the_page_needs_no_sideways_scrolling(
    page: Page, server: Server, topic: str, width: int, height: int
) -> None:
    page.set_viewport_size({"width": width, "height": height})
    page.goto(f"{server.url}/?topic={topic}")
    state(page, "Connected")
    server.publish("long" * 500, topic=topic)
    expect(page.locator("#events li")).to_have_count(1)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_page_publishes_with_the_keyboard_alone(page: Page, server: Server, topic: str) -> None:
    page.goto(f"{server.url}/?topic={topic}")
    state(page, "Connected")
    for text in ("hello", "<b>& more"):
        page.get_by_label("Publish an event").press_sequentially(text)
        page.keyboard.press("Enter")
        expect(page.locator("#events li").last).to_have_text(f"New event: {text}")
        expect(page.get_by_label("Publish an event")).to_have_value("")
    expect(page.locator("#announcement")).to_have_text("Published")


def test_the_page_copies_a_command_that_works_and_says_so(
    page: Page, server: Server, topic: str
) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    named = f"it's {topic} & more"
    page.goto(f"{server.url}/?{urlencode({'topic': named})}")
    state(page, "Connected")
    page.get_by_role("button", name="Copy the command to publish").press("Enter")
    expect(page.locator("#announcement")).to_have_text("Copied")
    command = page.evaluate("navigator.clipboard.readText()")
    subprocess.run([need("sh"), "-c", f"{command} -sS"], check=True, capture_output=True)
    expect(page.locator("#events li").last).to_have_text("New event: hello")
    page.get_by_role("button", name="Copy the command to subscribe").click()
    until(lambda: "curl -N" in page.evaluate("navigator.clipboard.readText()"), "it is copied")
    command = page.evaluate("navigator.clipboard.readText()")
    assert json.dumps(named) in curl_until(command, '"topics": ')


@pytest.fixture(name="closed", scope="module")
def _closed(serve: Callable[..., Server]) -> Server:
    return serve(TIDINGS_JWT_KEY=KEY, TIDINGS_ANONYMOUS="0")


def test_the_page_asks_for_a_token_and_keeps_it_in_the_tab(
    page: Page, closed: Server, topic: str
) -> None:
    page.goto(f"{closed.url}/?topic={topic}")
    state(page, "Token required")
    field = page.get_by_label("Token (kept in this tab only)")
    expect(field).to_be_focused()
    expect(page.get_by_text("This hub needs a token to subscribe.")).to_be_visible()
    field.fill("no token")
    page.keyboard.press("Enter")
    expect(field).to_be_visible()  # it is refused, and asked for again
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    field.fill(jwt.encode({"mercure": {"subscribe": [topic]}}, KEY))
    page.keyboard.press("Enter")
    state(page, "Connected")
    page.get_by_label("Publish an event").fill("hello")
    page.keyboard.press("Enter")
    expect(page.locator("#token-why")).to_contain_text("grants no publishing")
    field.fill(jwt.encode({"mercure": {"publish": ["*"], "subscribe": [topic]}}, KEY))
    page.keyboard.press("Enter")
    state(page, "Connected")
    page.get_by_label("Publish an event").press("Enter")
    expect(page.locator("#events li")).to_have_text(["New event: hello"])
    page.reload()
    state(page, "Connected")
    assert not [url for url in asked if "eyJ" in url]


def test_the_commands_of_a_hub_with_a_key_work_as_shown(page: Page, closed: Server) -> None:
    page.goto(closed.url)
    make_token = page.locator("#shell-token").inner_text()
    binaries = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    shown = curl_output(f"{make_token} && echo $TOKEN; true", PATH=binaries, TIDINGS_JWT_KEY=KEY)
    token = shown.strip()
    publish = page.locator("#curl-publish").inner_text()
    assert re.fullmatch(r"\d+-\d+\n?", curl_output(publish, TOKEN=token))
    subscribe = page.locator("#curl-subscribe").inner_text()
    assert "hub.open" in curl_until(subscribe, "hub.open", TOKEN=token)


def test_the_page_says_what_is_wrong_with_its_query(page: Page, server: Server) -> None:
    page.goto(f"{server.url}/?last=many")
    state(page, "Closed. Reload the page to connect.")
    expect(page.locator("#error")).to_contain_text("last")


OTHER = """<!doctype html><ol id="events"></ol><script>
  const source = new EventSource("%s/events?topic=%s");
  source.onmessage = (event) => {
    document.getElementById("events").innerText += `New event: ${event.data}`;
  };
  source.onopen = () => { document.title = "open"; };
  source.onerror = () => { document.title = "error"; };
</script>"""


@pytest.mark.parametrize(("origins", "title"), [("null", "open"), ("https://a.example", "error")])
def test_a_page_from_a_file_subscribes_when_its_origin_is_allowed(
    page: Page, serve: Callable[..., Server], tmp_path: Path, topic: str, origins: str, title: str
) -> None:
    server = serve(TIDINGS_CORS_ORIGINS=origins)
    file = tmp_path / "page.html"
    file.write_text(OTHER % (server.url, topic.replace("[", "%5B").replace("]", "%5D")))
    page.goto(file.as_uri())
    expect(page).to_have_title(title)
    server.publish("from a file", topic=topic)
    if title == "open":
        expect(page.locator("#events")).to_have_text("New event: from a file")


def test_a_page_of_another_origin_subscribes_when_it_is_allowed(
    page: Page, serve: Callable[..., Server], server: Server, topic: str
) -> None:
    hub = serve(TIDINGS_CORS_ORIGINS=server.url)
    page.goto(f"{server.url}/healthz")  # any page of that origin, without the policy of ours
    page.set_content(OTHER % (hub.url, topic))
    expect(page).to_have_title("open")
    hub.publish("from elsewhere", topic=topic)
    expect(page.locator("#events")).to_have_text("New event: from elsewhere")
