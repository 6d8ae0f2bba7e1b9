"""The console in real Chromium: what operators see, and what it asks of them."""

from __future__ import annotations

import os
import re
import subprocess
from time import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

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
ALL = {"publish": ["*"], "subscribe": ["*"]}


@pytest.fixture(name="locked", scope="module")
def _locked(serve: Callable[..., Server]) -> Server:
    """A hub with a key, shared by the tests of this file."""
    return serve(TIDINGS_JWT_KEY=KEY, TIDINGS_DEMO="0")


def open_watch(page: Page, server: Server, topic: str, start: str = "now", value: str = "") -> None:
    """Open the console at a watch, and await its stream."""
    query = urlencode({"topic": topic, "start": start} | ({"value": value} if value else {}))
    page.goto(f"{server.url}/console#events?{query}")
    expect(page.locator("#watch-status")).to_have_text("")


def rows(page: Page) -> Locator:
    return page.locator("#event-rows").get_by_role("row")


def cells(page: Page, row: int) -> list[str]:
    texts = rows(page).nth(row).get_by_role("gridcell").all_text_contents()
    return [text.replace("\u00a0", " ") for text in texts]


def use_token(page: Page, **claims: Any) -> None:
    """Give the token through the dialog, which must be open."""
    page.locator("#token-field").fill(jwt.encode(claims, KEY))
    page.locator("#token-field").press("Enter")
    expect(page.locator("#token-dialog")).to_be_hidden()


# -- events


def test_a_row_shows_an_event_and_opens_a_panel_with_all_its_fields(
    page: Page, server: Server, topic: str
) -> None:
    open_watch(page, server, topic)
    markup = "<img src=x onerror=alert(1)>"
    server.publish("ünïcode", topic=topic, type="named", id="my own")
    server.publish(f'{{"a": [1, "{markup}"], "end": null}}', topic=[topic, "another"], type="j")
    expect(rows(page)).to_have_count(2)
    time, *others = cells(page, 1)
    assert re.fullmatch(r"(\d\d-\d\d )?\d\d:\d\d:\d\d\.\d{3}", time)
    assert others == [topic, "named", "ünïcode", "9 B"]
    assert cells(page, 0)[1] == f"{topic} +1"
    rows(page).nth(0).click()
    panel = page.get_by_role("complementary", name="Event")
    expect(panel.locator("dd").nth(1)).to_have_text("another")
    data = panel.locator("#event-data")
    expect(data).to_have_text(re.compile(r'\{\n  "a": \[\n    1,'))
    assert markup in data.inner_text()
    assert page.locator("img").count() == 1  # the icon of the hub
    expect(data.locator(".key")).to_have_text(['"a"', '"end"'])
    page.keyboard.press("ArrowDown")
    expect(panel).to_contain_text("my own")
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    expect(rows(page).nth(1)).to_be_focused()


def test_the_watch_starts_where_the_form_says(page: Page, server: Server, topic: str) -> None:
    ids = [server.publish(str(number), topic=topic) for number in range(5)]
    page.goto(f"{server.url}/console")
    # No two watches in turn have as many rows: those of the last one would count.
    for start, value, count, first in [
        ("the oldest", "", 5, "0"),
        ("the last", "2", 2, "4"),
        ("a time", "15m", 5, "0"),
        ("after an id", ids[0], 4, "1"),
    ]:
        page.locator("#watch-topics").fill(f"{topic} and-another")
        page.locator("#start").select_option(start)
        if value:
            page.locator("#start-value").fill(value)
        page.get_by_role("button", name="Watch").click()
        expect(rows(page)).to_have_count(count)
        expect(rows(page).first.get_by_role("gridcell").nth(3)).to_have_text(first)
    page.reload()  # the URL keeps the watch
    expect(rows(page)).to_have_count(4)
    page.go_back()
    expect(page.locator("#start-value")).to_have_value("15m")
    open_watch(page, server, topic, "after", "unknown")
    expect(rows(page)).to_have_text(["The hub does not know this id. New events follow."])


def test_a_clock_time_names_the_last_time_that_the_clock_showed_it(
    page: Page, server: Server
) -> None:
    page.clock.install(time="2026-03-04T15:00:00")
    page.goto(f"{server.url}/healthz")
    moments = page.evaluate("""async () => {
      const { forHub } = await import("/static/console/moment.js");
      const local = (text) => new Date(forHub(text)).toString().slice(0, 24);
      return [local("14:05"), local("23:59:30"), forHub("15m")];
    }""")
    assert moments == ["Wed Mar 04 2026 14:05:00", "Tue Mar 03 2026 23:59:30", "15m"]


def test_a_link_to_an_event_opens_the_watch_at_it(page: Page, server: Server, topic: str) -> None:
    server.publish("before", topic=topic)
    server.publish("the one", topic=topic, id="mine/7")
    server.publish("after", topic=topic)
    open_watch(page, server, topic, "oldest")
    page.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    rows(page).nth(1).click()
    page.get_by_role("button", name="Copy link").click()
    link = page.evaluate("copied")
    page.goto("about:blank")
    page.goto(link)
    expect(page.locator("#event-data")).to_have_text("the one")
    expect(rows(page).get_by_text("after", exact=True)).to_be_visible()
    expect(page.get_by_role("row", selected=True)).to_contain_text("the one")
    age = page.locator("#event-time").text_content()
    expect(page.locator("#event-time")).not_to_have_text(age or "")  # it grows


def test_it_says_that_connects_and_disconnects_were_missed(page: Page, server: Server) -> None:
    reset = 'event: hub.reset\ndata: {"reason": "presence"}\n\n'
    page.route("**/events?*", lambda it: it.fulfill(body=reset, content_type="text/event-stream"))
    page.goto(f"{server.url}/console")
    expect(rows(page).first).to_have_text("Some connects and disconnects were missed.")


def test_50_000_events_leave_500_rows_and_a_pause_says_how_many_are_new(
    page: Page, server: Server, topic: str
) -> None:
    open_watch(page, server, topic)
    events = [{"topic": topic, "data": str(number)} for number in range(2000)]
    for _ in range(25):
        assert server.http.post("/events", json=events).status_code == 200
    expect(page.locator("#count")).to_have_text("50,000 events, 500 shown")
    expect(rows(page)).to_have_count(500)
    assert cells(page, 0)[3] == "1999"
    assert page.evaluate("document.querySelectorAll('*').length") < 5_000
    page.keyboard.press("p")
    server.http.post("/events", json=events[:17])
    resume = page.get_by_role("button", name="Resume (17 new)")
    expect(resume).to_have_class("pressed")
    assert cells(page, 0)[3] == "1999"
    resume.press("Enter")
    expect(rows(page).nth(0)).to_contain_text("16")
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    page.get_by_role("button", name="Clear").press("Enter")
    expect(page.get_by_text("Waiting for events…")).to_be_visible()


def test_a_watch_from_the_past_lists_from_there_on_and_shows_later_events_when_asked(
    page: Page, server: Server, topic: str
) -> None:
    events = [{"topic": topic, "data": str(number)} for number in range(800)]
    server.http.post("/events", json=events)
    open_watch(page, server, topic, "oldest")
    later = page.get_by_role("button", name="Show 300 later events")
    later.wait_for()
    assert (cells(page, 0)[3], cells(page, -1)[3]) == ("0", "499")
    expect(page.get_by_role("grid", name="Events, the oldest first")).to_be_visible()
    later.click()
    page.get_by_role("button", name="Show 50 later events").wait_for()
    assert (cells(page, 0)[3], cells(page, -1)[3]) == ("250", "749")
    expect(rows(page).nth(250)).to_be_in_viewport()
    expect(rows(page).nth(240)).not_to_be_in_viewport()


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 800)])
@pytest.mark.parametrize("start", ["now", "last", "since", "after", "oldest"])
def test_the_form_has_room_for_what_is_typed(
    page: Page, server: Server, width: int, height: int, start: str
) -> None:
    page.set_viewport_size({"width": width, "height": height})
    page.goto(f"{server.url}/console")
    page.locator("#start").select_option(start)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    room, over = page.evaluate("""() => {
      const field = document.getElementById("start-value");
      const { paddingLeft, paddingRight } = getComputedStyle(field);
      const parts = [...document.querySelectorAll(".bar :is(.field > *, .field, button)")]
        .filter((it) => it.offsetWidth && it.id !== "types");
      const meets = (one, other) => {
        const [a, b] = [one, other].map((it) => it.getBoundingClientRect());
        return a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1
          && b.top < a.bottom - 1;
      };
      const over = parts.flatMap((one, at) => parts.slice(at + 1)
        .filter((other) => !one.contains(other) && meets(one, other))
        .map((other) => `${one.outerHTML} ${other.outerHTML}`));
      const cut = [...document.querySelectorAll(".field span")]
        .filter((it) => it.scrollWidth > it.offsetWidth + 1);
      const room = field.clientWidth - parseFloat(paddingLeft) - parseFloat(paddingRight);
      return [room, [...over, ...cut.map((it) => it.outerHTML)]];
    }""")
    assert over == []
    assert page.locator("#start").evaluate("(it) => it.clientWidth") > 80  # "after an id"
    if start in ("last", "since", "after"):
        assert room >= 120


def test_a_time_that_the_hub_cannot_take_is_refused_beside_the_field(
    page: Page, server: Server, topic: str
) -> None:
    asked: list[str] = []
    page.goto(f"{server.url}/console#events?topic={topic}&start=now")
    expect(page.locator("#empty")).to_have_text("Waiting for events…")
    page.on("request", lambda request: asked.append(request.url))
    page.locator("#start").select_option("since")
    for text, why in {"25:99": "is not a time", "2126-01-01": "is in the future"}.items():
        page.locator("#start-value").fill(text)
        page.get_by_role("button", name="Watch").click()
        expect(page.get_by_text("14:05", exact=False).locator("visible=true")).to_have_count(1)
        expect(page.locator("#start-problem")).to_contain_text(f"“{text}” {why}. Write a time")
        expect(page.locator("#empty")).to_have_text("Nothing is watched.")
    assert not [url for url in asked if "/events?" in url]
    page.locator("#start-value").fill("00:00")
    page.get_by_role("button", name="Watch").click()
    since = page.locator("#watch-from")
    expect(since).to_have_text(re.compile(r"Since \d+ \w+ 00:00:00, your time zone"))
    expect(page.locator("#start-problem")).to_be_hidden()


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 800)])
def test_the_row_that_is_read_stays_in_place_and_the_top_follows(
    page: Page, server: Server, topic: str, width: int, height: int
) -> None:
    page.set_viewport_size({"width": width, "height": height})
    open_watch(page, server, topic)
    server.http.post("/events", json=[{"topic": topic, "data": f"{n}."} for n in range(495)])
    expect(page.locator("#count")).to_contain_text("495 events")
    page.get_by_role("tab", name="Events").click()  # it is shown already
    server.publish("at the top", topic=topic)
    expect(rows(page).nth(0)).to_contain_text("at the top")
    expect(rows(page).nth(0)).to_be_in_viewport()
    read = rows(page).filter(has_text="400.")
    read.scroll_into_view_if_needed()
    place = read.evaluate("(row) => row.getBoundingClientRect().top")
    for number in range(20):
        server.publish(f"new {number}", topic=topic)
    page.get_by_role("button", name="Resume (").wait_for()
    expect(page.locator("#count")).to_contain_text("516 events")
    now = read.evaluate("(row) => row.getBoundingClientRect().top")
    assert now == pytest.approx(place, abs=2)  # pixels: a browser rounds them when it scrolls
    page.evaluate("document.querySelector('.scroll').scrollTop = 0")
    page.evaluate("scrollTo(0, 0)")
    expect(rows(page).nth(0)).to_contain_text("new 19")


def test_text_and_type_filter_what_came_and_what_comes(
    page: Page, server: Server, topic: str
) -> None:
    open_watch(page, server, topic)
    for text, kind in [("apple", "fruit"), ("Pineapple", "fruit"), ("leek", "plant")]:
        server.publish(text, topic=topic, type=kind)
    expect(rows(page)).to_have_count(3)
    page.locator("body").press("/")
    expect(page.locator("#filter")).to_be_focused()
    page.locator("#filter").fill("APPLE")
    expect(rows(page)).to_have_count(2)
    server.publish("apple pie", topic=topic, type="cake")
    server.publish("onion", topic=topic, type="plant")
    expect(page.locator("#count")).to_have_text("5 events, 3 shown")
    page.locator("#type-filter").fill("cake")
    expect(rows(page)).to_have_count(1)
    page.locator("#type-filter").fill("none")
    expect(page.locator("#empty")).to_have_text("No event fits the filter.")


# -- the hub


def test_it_says_when_the_hub_is_away_and_dims_what_it_showed(
    page: Page, serve: Callable[..., Server]
) -> None:
    server = serve(TIDINGS_DEMO="0")
    page.goto(f"{server.url}/console")
    state = page.locator("#state")
    expect(state).to_contain_text("Connected · event log available")
    server.stop()
    expect(state).to_have_text("The hub cannot be reached, retrying…")
    expect(page.locator("#as-of")).to_have_text(re.compile(r"as of \d\d:\d\d:\d\d"))
    expect(page.locator("#strip")).to_have_css("opacity", "0.5")


def test_it_asks_nothing_while_it_is_hidden(page: Page, server: Server) -> None:
    page.clock.install()
    page.goto(f"{server.url}/console")
    expect(page.locator("#state")).to_contain_text("Connected")
    page.evaluate(HIDE_AND_RECORD)
    page.clock.run_for(10_000)
    assert page.evaluate("asked") == []
    with page.expect_request("**/console/state*"):
        page.evaluate(SET_HIDDEN, arg=False)


# -- topics, connections, hub


def test_topics_are_searched_watched_and_deleted_after_a_confirmation(
    page: Page, server: Server, topic: str
) -> None:
    server.publish("one", topic=topic)
    page.goto(f"{server.url}/console#topics")
    page.locator("#topic-search").fill(topic[:-4])
    row = page.locator("#topics-rows").get_by_role("row")
    expect(row).to_have_count(1)
    head = page.get_by_role("columnheader", name="Rate, ")
    head.get_by_role("button").click()
    expect(head).to_have_attribute("aria-sort", "descending")
    with server.listen(topic=topic):
        expect(row.get_by_role("cell").nth(2)).to_have_text("1")
    expect(row).to_contain_text("/s")
    expect(row.get_by_role("cell").nth(3)).to_have_text("1")
    expect(row.get_by_role("cell").nth(4)).to_have_text(re.compile(r"\d\d:\d\d:\d\d"))
    page.get_by_role("columnheader", name="Topic").get_by_role("button").click()
    expect(head).to_have_attribute("aria-sort", "none")
    expect(row.get_by_role("cell").nth(3)).to_have_text("1")
    row.get_by_role("button", name=f"Delete {topic}").click()
    dialog = page.get_by_role("alertdialog", name=f"Delete all events of {topic}?")
    dialog.get_by_role("button", name="Cancel").click()
    row.get_by_role("link", name=topic, exact=True).click()
    expect(rows(page)).to_have_count(1)
    assert cells(page, 0)[3] == "one"
    page.go_back()
    row.get_by_role("button", name=f"Delete {topic}").click()
    dialog.get_by_role("button", name="Delete").click()
    expect(page.locator("#topics-said")).to_have_text(f"1 event of {topic} deleted.")
    expect(page.locator("#topics-empty")).to_have_text("No topic fits.")


def test_connections_are_found_by_topic_and_disconnected(
    page: Page, locked: Server, topic: str
) -> None:
    page.goto(f"{locked.url}/console#connections?{urlencode({'topic': topic})}")
    page.locator("#connections-locked").get_by_role("button", name="Use a token").click()
    use_token(page, mercure=ALL)
    row = page.locator("#connections-rows").get_by_role("row")
    expect(page.locator("#connections-empty")).to_be_visible()
    token = jwt.encode({"sub": "olga", "iat": time(), "mercure": {}}, KEY)
    headers = {"Authorization": f"Bearer {token}"}
    with locked.listen(headers=headers, topic=[topic, "/users/{id}"]) as stream:
        expect(row).to_have_count(1)
        for text in ("127.0.0.1", "olga", topic, "/users/{id}", "0 events", "0 ms"):
            expect(row).to_contain_text(text)
        expect(row).not_to_contain_text("via")
        expect(page.locator("#connections-count")).to_have_text("1 subscriber")
        page.locator("#connections-topic").fill("/users/7")
        page.get_by_role("button", name="Find").click()
        expect(row).to_contain_text("via /users/{id}")
        assert page.url.endswith("#connections?topic=%2Fusers%2F7")
        row.get_by_role("button", name="Disconnect olga").click()
        name = re.compile(r"^Disconnect olga, stream on .*\{id\}.*, since [\d:]+\?$")
        confirm = page.get_by_role("alertdialog", name=name)
        expect(confirm).to_contain_text("unless you also use Revoke")
        confirm.get_by_role("button", name="Disconnect").click()
        last = stream.rest()[-1]
        assert (last.type, "kicked" in last.data) == ("hub.bye", True)
        said = page.locator("#connections-said")
        expect(said).to_have_text(re.compile(r"^Disconnected at [\d:]+: olga, stream on "))
        expect(row).to_have_count(0)


def test_without_a_key_the_connections_say_how_to_get_one(page: Page, server: Server) -> None:
    asked = list[str]()
    page.on(
        "request", lambda it: asked.append(it.url) if "/console/connections?" in it.url else None
    )
    page.goto(f"{server.url}/console#connections")
    expect(page.locator("#connections-locked")).to_contain_text("Set TIDINGS_JWT_KEY")
    expect(page.locator("#connections-list")).to_be_hidden()
    page.get_by_role("tab", name="Hub").click()
    page.get_by_role("tab", name="Connections").click()
    expect(page.locator("#connections-locked")).to_contain_text("Set TIDINGS_JWT_KEY")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    with page.expect_response("**/console/state*"):
        pass
    assert asked == []


def test_the_hub_tab_shows_workers_the_log_refusals_and_settings(
    page: Page, server: Server
) -> None:
    assert server.http.get("/events?last=x").status_code == 400
    page.goto(f"{server.url}/console#hub")
    expect(page.locator("#workers")).to_contain_text(str(server.worker))
    expect(page.locator("#about-log")).to_contain_text("sqlite:")
    expect(page.locator("#about-log")).to_contain_text(" of 1,000,000 (")
    expect(page.locator("#refusals")).to_contain_text("400 GET /events")
    expect(page.locator("#refusals")).to_contain_text("127.0.0.1")
    said = re.compile(r"^Refused since [\d:]+: .*invalid \d")
    expect(page.locator("#refusal-counts")).to_have_text(said)
    setting = page.locator("#settings").get_by_role("row").filter(has_text="TIDINGS_HISTORY_AGE")
    expect(setting.get_by_role("cell")).to_have_text(["TIDINGS_HISTORY_AGE", "7d", "default"])
    expect(page.locator("#settings")).to_contain_text("1G")
    expect(page.locator("#settings")).to_contain_text("computed")
    expect(page.locator("#workers")).to_contain_text("% of all")
    expect(page.locator("#warnings-card")).to_be_visible()
    page.get_by_label("only those that are set").check()
    expect(page.locator("#settings")).not_to_contain_text("TIDINGS_HISTORY_AGE")


def test_where_nothing_was_refused_it_says_since_when(page: Page, server: Server) -> None:
    nothing: dict[str, list[str]] = {"settings": [], "refusals": [], "recent": [], "warnings": []}
    page.route("**/console/hub", lambda it: it.fulfill(json=nothing))
    page.goto(f"{server.url}/console#hub")
    said = re.compile(r"^Nothing was refused since [\d:]+\.$")
    expect(page.locator("#refusal-counts")).to_have_text(said)
    expect(page.get_by_role("table", name="Newest refusals")).to_be_hidden()


def test_the_console_is_not_one_of_the_subscribers(page: Page, server: Server, topic: str) -> None:
    open_watch(page, server, topic)
    with server.listen(topic=topic):
        server.publish("x", topic=topic)
        expect(rows(page)).to_have_count(1)
        state = server.http.get("/console/state").json()
        expect(page.locator("#tile-subscribers .value")).to_have_text(str(state["readers"]))
    assert sum(worker["readers"] for worker in state["workers"]) == 1


# -- publish


def test_the_drawer_publishes_and_shows_the_id_or_the_error(
    page: Page, server: Server, topic: str
) -> None:
    page.goto(f"{server.url}/console")
    page.get_by_role("button", name="Publish").press("Enter")
    drawer = page.get_by_role("dialog", name="Publish an event")
    expect(drawer.get_by_label("Topic")).to_be_focused()
    with server.listen(topic=topic) as stream:
        drawer.get_by_label("Topic").fill(topic)
        drawer.get_by_label("Type").fill("note")
        drawer.get_by_label("Id").fill("mine")
        drawer.get_by_label("Data").fill("two\nlines")
        drawer.get_by_role("button", name="Publish").press("Enter")
        expect(page.locator("#published")).to_have_text("Published with the id mine")
        [message] = stream.messages(1)
        assert (message.data, message.type, message.id) == ("two\nlines", "note", "mine")
    drawer.get_by_label("Data").fill("other")
    drawer.get_by_role("button", name="Publish").press("Enter")
    expect(page.locator("#publish-error")).to_contain_text("id")
    expect(page.locator("#published")).to_be_hidden()
    page.keyboard.press("Escape")
    expect(drawer).to_be_hidden()
    expect(page.get_by_role("button", name="Publish")).to_be_focused()


def test_the_drawer_says_where_json_is_wrong_and_indents_what_is_right(
    page: Page, server: Server
) -> None:
    page.goto(f"{server.url}/console")
    page.get_by_role("button", name="Publish").click()
    data, check = page.locator("#publish textarea"), page.locator("#json-check")
    for text, where in {
        '{"a": 1,\n "b" 2}': "line 2, column 6: “:” is missing",
        "[1, 2": "line 1, column 6: “,” or “]” is missing",
        "[1,]": "line 1, column 4: a value is missing",
        "{a: 1}": "line 1, column 2: a name in double quotes is missing",
        "{} x": "line 1, column 4: the end is missing",
    }.items():
        data.fill(text)
        expect(check).to_contain_text(where)
    data.fill('{"a":[1]}')
    expect(check).to_have_text("Valid JSON.")
    page.get_by_role("button", name="Check and indent JSON").click()
    expect(data).to_have_value('{\n  "a": [\n    1\n  ]\n}')
    data.fill("plain text")
    expect(check).to_be_hidden()


def test_the_same_with_curl_publishes_the_same(page: Page, locked: Server, topic: str) -> None:
    page.goto(f"{locked.url}/console")
    page.get_by_role("button", name="Publish").click()
    data = 'it\'s {"a": 1} & $HOME\nend'
    page.locator("#publish textarea").fill(data)
    page.locator("#publish [name=topic]").fill(topic)
    page.get_by_label("Private").check()
    command = page.locator("#curl").inner_text()
    token = jwt.encode({"mercure": ALL}, KEY)
    env = {**os.environ, "TOKEN": token}
    run = subprocess.run(["sh", "-c", command], env=env, capture_output=True, text=True, check=True)
    query = {"topic": topic, "since": "1h", "envelope": "1"}
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
    [event] = locked.http.get("/events", params=query, headers=headers).json()["events"]
    assert (event["data"], event["private"], event["id"]) == (data, True, run.stdout.strip())


def test_an_event_is_published_again_with_all_its_topics(
    page: Page, server: Server, topic: str
) -> None:
    open_watch(page, server, topic)
    server.publish("once", topic=[topic, "another"], type="kind", id="own")
    rows(page).nth(0).click()
    page.get_by_role("button", name="Publish again").click()
    expect(page.locator("#other-topics")).to_have_text("Also to another")
    page.locator("#publish").get_by_role("button", name="Publish", exact=True).click()
    expect(rows(page)).to_have_count(2)
    assert cells(page, 0)[1:4] == [f"{topic} +1", "kind", "once"]


# -- tokens


def test_a_missing_grant_is_named_where_it_hides_something_and_no_url_has_a_token(
    page: Page, locked: Server, topic: str
) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{locked.url}/console")
    expect(page.locator("#state")).to_have_text("Token required")
    expect(page.locator("#strip")).to_be_hidden()
    page.locator("#numbers-locked").get_by_role("button", name="Use a token").click()
    expect(page.locator("#token-field")).to_be_focused()
    use_token(page, mercure={"subscribe": [topic]})
    expect(page.locator("#state")).to_have_text("This token does not show the numbers")
    expect(page.locator("#numbers-locked")).to_contain_text("/console/state")
    page.get_by_role("button", name="Publish").click()
    expect(page.locator("#publish-denied")).to_have_text(
        "The token does not grant publishing to events."
    )
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Token", exact=True).click()
    use_token(page, mercure=ALL)
    expect(page.locator("#state")).to_contain_text("Connected")
    expect(page.locator("#numbers-locked")).to_be_hidden()
    page.goto(f"{locked.url}/console#events?topic={topic}&start=oldest")
    headers = {"Authorization": f"Bearer {jwt.encode({'mercure': ALL}, KEY)}"}
    event = {"topic": topic, "data": "secret", "private": "on"}
    assert locked.http.post("/events", data=event, headers=headers).status_code == 200
    expect(rows(page)).to_contain_text(["secret"])
    expect(rows(page)).to_contain_text(["private"])
    page.reload()
    expect(page.locator("#state")).to_contain_text("Connected")
    assert not [url for url in [*asked, page.url] if "eyJ" in url]


def test_it_asks_nothing_that_it_knows_to_be_refused(
    page: Page, locked: Server, server: Server
) -> None:
    refused: list[str] = []
    page.on("response", lambda it: refused.append(it.url) if it.status >= 400 else None)
    page.goto(f"{locked.url}/console")
    for name in ("topics", "connections", "hub", "events"):
        page.locator(f"#tab-{name}").click()
        expect(page.locator("main .locked:visible")).to_have_count(1)
    page.locator("#tab-hub").click()
    expect(page.locator("#hub-panel .card:visible")).to_have_count(0)
    page.goto(f"{server.url}/console#connections")
    expect(page.locator("#connections-locked")).to_contain_text("Set TIDINGS_JWT_KEY")
    assert refused == []
    page.goto(f"{locked.url}/console#hub")
    page.get_by_role("button", name="Token", exact=True).click()
    use_token(page, mercure={"subscribe": ["/topics"]})
    expect(page.locator("#state")).to_have_text("This token does not show the numbers")
    expect(page.locator("main .locked:visible")).to_have_count(1)
    expect(page.locator("#hub-panel .card:visible")).to_have_count(0)
    page.locator("#tab-topics").click()
    expect(page.locator("#topics-empty")).to_be_visible()


def test_a_token_in_a_cookie_is_enough(page: Page, locked: Server) -> None:
    token = jwt.encode({"mercure": ALL}, KEY)
    cookie = {"name": "mercureAuthorization", "value": token, "url": locked.url}
    page.context.add_cookies([cookie])  # type: ignore[list-item]
    page.goto(f"{locked.url}/console#topics")
    expect(page.locator("#state")).to_contain_text("Connected")
    expect(page.get_by_role("columnheader", name="Rate, ")).to_be_visible()


def test_the_watch_goes_on_as_soon_as_the_hub_is_back(
    page: Page, server: Server, topic: str
) -> None:
    is_away = True
    page.route(
        lambda url: "/console/state" in url or "/events?" in url,
        lambda route: route.abort() if is_away else route.continue_(),
    )
    page.goto(f"{server.url}/console#events?topic={topic}&start=now")
    expect(page.locator("#state")).to_contain_text("cannot be reached")
    is_away = False
    expect(page.locator("#state")).to_contain_text("Connected")
    expect(page.locator("#watch-status")).to_have_text("")
    expect(page.locator("#empty")).to_have_text("Waiting for events…")


def test_the_dialog_says_what_a_token_grants_before_it_is_used(page: Page, locked: Server) -> None:
    page.goto(f"{locked.url}/console")
    page.get_by_role("button", name="Token", exact=True).click()
    grants = page.get_by_role("list", name="What it grants here")
    claims: dict[str, Any] = {
        "sub": "olga",
        "exp": time() + 3590,
        "mercure": {"subscribe": ["/console/{page}", "{+all}"], "publish": ["/users/{id}"]},
    }
    page.locator("#token-field").fill(jwt.encode(claims, KEY))
    expect(page.locator("#token-claims")).to_contain_text("olga")
    expect(page.locator("#token-claims")).to_contain_text("in 59 min")
    expect(grants.locator(".can")).to_have_text(
        ["May see the numbers", "May see settings, refusals, warnings"]
    )
    expect(grants.locator(".cannot").nth(0)).to_have_text(
        "May not list topics: needs subscribe of /topics"
    )
    expect(grants.locator(".cannot").filter(has_text="disconnect")).to_have_text(
        "May not disconnect: needs publish of /.well-known/mercure/subscriptions"
    )
    page.locator("#token-field").fill(jwt.encode(claims | {"exp": time() - 90}, KEY))
    expect(page.locator("#token-claims .error")).to_contain_text("expired 1 min ago")
    expect(page.get_by_role("heading", name="The token claims:")).to_be_visible()
    expect(page.locator("#token-problem")).to_contain_text("The token has expired.")
    expect(grants.locator(".can")).to_have_count(0)
    page.locator("#token-field").fill(KEY)
    expect(page.locator("#token-problem")).to_contain_text("Do not paste the key here.")
    expect(page.get_by_role("button", name="Use token")).to_be_disabled()
    page.locator("#token-field").press("Enter")
    page.keyboard.press("Escape")
    expect(page.locator("#state")).to_have_text("Token required")


# -- the page


def test_the_tabs_are_moved_with_arrows_and_kept_in_the_url(page: Page, server: Server) -> None:
    page.goto(f"{server.url}/console")
    page.get_by_role("tab", name="Events").press("ArrowLeft")
    expect(page.get_by_role("tab", name="Hub")).to_be_focused()
    expect(page.get_by_role("tabpanel", name="Hub")).to_be_visible()
    expect(page.locator("#events-panel")).to_be_hidden()
    page.reload()
    expect(page.get_by_role("tab", name="Hub", selected=True)).to_be_visible()
    page.go_back()
    expect(page.get_by_role("tabpanel", name="Events")).to_be_visible()


def test_all_that_a_browser_loads_for_it_is_below_60_kb(page: Page, server: Server) -> None:
    page.goto(f"{server.url}/console")
    expect(page.locator("#state")).to_contain_text("Connected")
    loaded = page.evaluate("""() => [
      ...performance.getEntriesByType("navigation"),
      ...performance.getEntriesByType("resource"),
    ].filter(({ name }) => name.includes("/static/") || name.endsWith("/console"))
      .map(({ name, transferSize }) => [name, transferSize])""")
    assert len(loaded) > 25
    assert all(size for _, size in loaded)
    assert sum(size for _, size in loaded) < 60_000


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 800)])
def test_it_needs_no_sideways_scrolling(
    page: Page, server: Server, topic: str, width: int, height: int
) -> None:
    page.set_viewport_size({"width": width, "height": height})
    open_watch(page, server, topic)
    server.publish("long" * 500, topic=topic, type="type" * 50, id=f"{topic:i<128}"[:128])
    expect(rows(page)).to_have_count(1)
    expect(rows(page).get_by_role("gridcell").nth(2)).to_have_css("text-overflow", "ellipsis")
    rows(page).nth(0).click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_role("button", name="Publish again").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.goto(f"{server.url}/console#hub")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


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
    for text in ("key", "string", "scalar"):
        assert contrast(colors[text], colors["panel"]) >= 4.5, text
    for text in ("ink", "quiet", "wait"):
        assert contrast(colors[text], colors["chosen"]) >= 4.5, text
