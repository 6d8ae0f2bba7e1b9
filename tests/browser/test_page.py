"""The live page, and other people's pages, in real Chromium."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import jwt
import pytest
from playwright.sync_api import expect

from support import embedded
from support.curl import curl_output, curl_until
from support.ports import free_port
from support.project import environment
from support.tokens import KEY, authorization, token
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


def test_the_page_begins_with_the_newest_twenty_of_all_topics(
    page: Page, server: Server, topic: str
) -> None:
    for number in range(25):
        server.publish(str(number), topic=f"{topic}/{number % 3}")
    page.goto(server.url)
    items = page.locator("#events li")
    expect(items).to_have_text([f"{topic}/{n % 3} {n}" for n in range(5, 25)])
    server.publish('{"item":"tea"}', topic=[topic, "events"], type="paid")
    expect(items.last).to_have_text(f'{topic} paid {{"item":"tea"}}')
    expect(items.last.locator(".chip")).to_have_text([topic, "paid"])
    server.publish("for the page")
    expect(items.last).to_have_text("New event: for the page")
    expect(items.last.locator(".chip")).to_have_attribute("data-text", "events")
    expect(page.get_by_text("This page subscribes to all topics.")).to_be_visible()


def test_the_page_says_that_a_topic_has_ended(page: Page, server: Server, topic: str) -> None:
    page.goto(f"{server.url}/?topic={topic}")
    state(page, "Connected")
    server.publish("last", topic=topic, end="1")
    state(page, "Ended: nothing more comes")
    page.get_by_role("link", name="Show all topics").click()
    state(page, "Connected")


def test_an_error_of_a_proxy_does_not_end_the_stream(
    page: Page, server: Server, topic: str
) -> None:
    page.route("**/events?**", lambda it: it.fulfill(status=502, body="<html>"), times=1)
    page.goto(f"{server.url}/?topic={topic}")
    expect(page.get_by_role("alert")).to_have_text("The hub answered 502.")
    state(page, "Connected")
    expect(page.get_by_role("alert")).to_be_empty()


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
    page.goto(f"{server.url}/?topic={topic}&topic={topic * 3}")
    state(page, "Connected")
    server.publish("long" * 500, topic=topic * 3, type="type" * 50)
    expect(page.locator("#events li")).to_have_count(1)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_large_event_is_shortened(page: Page, server: Server, topic: str) -> None:
    page.goto(f"{server.url}/?topic={topic}")
    state(page, "Connected")
    server.publish("x" * 15_000, topic=topic)
    expect(page.locator("#events li")).to_have_text(re.compile("x{5000}… 10,000 more characters$"))


def test_a_screen_reader_gets_a_sentence_for_many_events(
    page: Page, server: Server, topic: str
) -> None:
    page.clock.install()
    page.goto(f"{server.url}/?topic={topic}")
    state(page, "Connected")
    server.publish("hello", topic=topic)
    expect(page.locator("#announcement")).to_have_text(f"{topic}: hello")
    server.http.post("/events", json=[{"topic": topic, "data": "x"}] * 30)
    expect(page.locator("#events li")).to_have_count(31)
    page.clock.fast_forward(5000)
    expect(page.locator("#announcement")).to_have_text("30 new events")
    assert page.get_by_role("region", name="Events").get_attribute("tabindex") == "0"


def test_the_page_publishes_with_the_keyboard_alone(page: Page, server: Server, topic: str) -> None:
    page.goto(f"{server.url}/?topic={topic}")
    state(page, "Connected")
    for text in ("hello", "<b>& more"):
        page.get_by_label("Publish an event").press_sequentially(text)
        page.keyboard.press("Enter")
        expect(page.locator("#events li").last).to_have_text(f"New event: {text}")
        expect(page.get_by_label("Publish an event")).to_have_value("")
    expect(page.locator("#announcement")).to_have_text("Published")


@pytest.fixture(name="closed", scope="module")
def _closed(serve: Callable[..., Server]) -> Server:
    """A hub that lets nobody in without a token."""
    return serve(TIDINGS_JWT_KEY=KEY, TIDINGS_ANONYMOUS="0")


@pytest.fixture(name="below", scope="module")
def _below(serve: Callable[..., Server]) -> Server:
    """A hub with a key below the path /hub/, which lets everybody see public events."""
    return serve(TIDINGS_JWT_KEY=KEY, SCRIPT_NAME="/hub")


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


def test_the_page_says_what_a_token_does_not_show(page: Page, below: Server, topic: str) -> None:
    some = f"Public events of all topics, and private events of {topic}, /b, /c"
    shown = page.locator("#scope")
    page.goto(f"{below.url}/hub/")
    expect(shown).to_have_text("Public events of all topics. Private events need a token.")
    page.get_by_role("button", name="Use a token").click()
    field = page.get_by_label("Token (kept in this tab only)")
    for patterns, words in (
        ([], "Public events of all topics. Your token grants no private events."),
        ([topic, "/b", "/c", "/d"], f"{some} and 1 more. Your token does not grant *."),
        (["*"], "Public and private events of all topics."),
    ):
        field.fill(token(subscribe=patterns))
        field.press("Enter")
        expect(shown).to_have_text(words)
        expect(page.get_by_label("Publish an event")).to_be_focused()
        page.get_by_role("button", name="Remove the token").click()
        expect(shown).to_have_text("Public events of all topics. Private events need a token.")
        page.get_by_role("button", name="Use a token").click()
    field.fill(token(subscribe=["*"]))
    field.press("Enter")
    state(page, "Connected")
    headers = authorization(token(publish=["*"]))
    below.http.post("/events", data={"topic": topic, "private": "1"}, headers=headers)
    expect(page.locator("#events li").last).to_have_text(f"{topic} private")
    with below.listen(path="/hub/events"):  # which presence tells, though not this page
        below.http.post("/events", data={"topic": topic, "data": "last"}, headers=headers)
        expect(page.locator("#events li").last).to_have_text(f"{topic} last")
    expect(page.locator("#events .chip", has_text="mercure")).to_have_count(0)


def test_the_page_sends_no_token_of_its_url(page: Page, below: Server) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{below.url}/hub/?authorization=secret")
    state(page, "Connected")
    assert [url for url in asked if "secret" in url] == [f"{below.url}/hub/?authorization=secret"]


def copied(page: Page, name: str) -> str:
    """Press a button to copy, and return what it copied."""
    page.evaluate("navigator.clipboard.writeText('')")
    page.get_by_role("button", name=f"Copy {name}").press("Enter")
    text: str = until(lambda: page.evaluate("navigator.clipboard.readText()"), "it is copied")
    return text


@pytest.mark.parametrize(
    ("name", "path", "named"),
    [
        ("server", "/", ""),
        ("server", "/", "it's {0} & more"),
        ("server", "/", "/{0}/{{id}}"),
        ("closed", "/", ""),
        ("below", "/hub/", "{0}"),
    ],
    ids=["default", "quoted", "template", "no visitors", "below a path"],
)
def test_what_the_page_offers_to_copy_works(
    page: Page, request: pytest.FixtureRequest, topic: str, name: str, path: str, named: str
) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    hub: Server = request.getfixturevalue(name)
    page.goto(f"{hub.url}{path}")
    page.get_by_label("Topic of the commands").fill(named.format(topic.replace(" ", "")))
    subscribe = copied(page, "the command to subscribe")
    publish = copied(page, "the command to publish")
    snippet = copied(page, "the code of the web page")
    expect(page.locator("#announcement")).to_have_text("Copied")
    env = {}
    if name != "server":
        make_token = copied(page, "the command to make a token")
        binaries = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        made = curl_output(f"{make_token} && echo $TOKEN; true", PATH=binaries, TIDINGS_JWT_KEY=KEY)
        env = {"TOKEN": made.strip()}
    page.on("dialog", lambda dialog: dialog.accept(env["TOKEN"]))
    # Any page of the hub's origin, without the policy of its own pages.
    body = f"<!doctype html><meta charset=utf-8>{snippet}"
    page.route("**/mine.html", lambda it: it.fulfill(body=body, content_type="text/html"))
    with page.expect_response(re.compile(r"/events\b")) as opened:
        page.goto(f"{hub.url}/mine.html")
    assert opened.value.status == 200
    assert re.fullmatch(r"\d+-\d+\n", curl_output(publish, **env))
    expect(page.get_by_role("listitem")).to_have_text("New event: hello")
    with ThreadPoolExecutor() as pool:
        printed = pool.submit(partial(curl_until, subscribe, "data: hello\n", **env))
        until(lambda: curl_output(publish, **env) and printed.done(), "curl has printed it")
        assert "hub.open" in printed.result()


def test_the_page_says_what_is_wrong_with_its_query(page: Page, server: Server) -> None:
    page.goto(f"{server.url}/?last=many")
    state(page, "Closed. Reload the page to connect.")
    expect(page.locator("#error")).to_contain_text("last")


APP = """
from flask import Flask
from tidings import Tidings

app = Flask("app")
hub = Tidings(app, url_prefix="/realtime")
app.add_url_rule("/", "index", lambda: "<!doctype html><title>The app's page</title>")
"""


def test_what_the_page_of_an_app_offers_works_in_the_app(page: Page, tmp_path: Path) -> None:
    worker = ["-k", "tidings.server.StreamWorker"]
    with embedded.serving(embedded.project(tmp_path, APP), *worker) as server:
        page.goto(f"{server.url}/realtime/?topic=it's")
        expect(page.get_by_label("Publish an event")).to_have_count(0)
        state(page, "Connected")
        publish = page.locator("#app-publish").inner_text()
        snippet = page.locator("#snippet").inner_text()
        assert server.url not in snippet  # it is also right where the app is deployed
        page.goto(server.url)
        with page.expect_response("**/realtime/events**"):
            page.set_content(snippet)
        code = [sys.executable, "-c", f"from app import hub\n{publish}"]
        subprocess.run(code, cwd=tmp_path, env=environment({}), check=True)
        expect(page.get_by_role("listitem")).to_have_text("New event: hello")


@pytest.fixture(name="shared", scope="module")
def _shared(serve: Callable[..., Server], server: Server) -> Server:
    """A hub whose events a page from a file may show, and one of the other hub's origin."""
    return serve(TIDINGS_CORS_ORIGINS=f"null,{server.url}")


def test_the_code_works_in_pages_of_origins_that_are_allowed(
    page: Page, shared: Server, server: Server, topic: str, tmp_path: Path
) -> None:
    page.goto(f"{shared.url}/?topic={topic}")
    expect(page.locator("#origins")).to_contain_text("in a file that you open in a browser")
    snippet = page.locator("#snippet").inner_text()
    page.goto(f"{server.url}/healthz")  # any page of that origin, without the policy of ours
    with page.expect_response(f"{shared.url}/**"):
        page.set_content(snippet)
    shared.publish("from elsewhere", topic=topic)
    expect(page.get_by_role("listitem")).to_have_text("New event: from elsewhere")
    file = tmp_path / "page.html"
    file.write_text(f"<!doctype html>{snippet}")
    with page.expect_response(f"{shared.url}/**"):
        page.goto(file.as_uri())
    shared.publish("from a file", topic=topic)
    expect(page.get_by_role("listitem")).to_have_text("New event: from a file")


def test_the_page_names_the_setting_for_pages_of_other_origins(
    page: Page, server: Server, topic: str, tmp_path: Path
) -> None:
    page.goto(f"{server.url}/?topic={topic}")
    expect(page.locator("#origins")).to_have_text(
        f"It works in a page of the origin {server.url}. For a page of another origin, add its"
        " origin to the hub's setting TIDINGS_CORS_ORIGINS; for a file that you open in a browser,"
        " add null."
    )
    file = tmp_path / "page.html"
    file.write_text(f"<!doctype html>{page.locator('#snippet').inner_text()}")
    with page.expect_console_message(lambda line: "CORS policy" in line.text):
        page.goto(file.as_uri())
