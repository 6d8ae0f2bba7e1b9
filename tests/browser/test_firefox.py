"""The pages, `tidings.js` and the native EventSource in Firefox."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jwt
import pytest

from support.event_stream_cases import CASES
from support.firefox import firefox
from support.plain_server import plain_server
from support.ports import free_port
from support.server import serving
from support.tokens import KEY, authorization, token
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.firefox import Firefox
    from support.server import Server

pytestmark = pytest.mark.browser

SUBSCRIBE = """async (topic = "events") => {
  const { Tidings } = await import("/static/tidings.js");
  window.got = {};
  const url = `/events?topic=${topic}`;
  window.sources = [new EventSource(url), new Tidings(url), new Tidings(url)];
  sources.forEach((source, number) => {
    got[number] = [];
    source.onmessage = ({ data }) => got[number].push(data);
  });
}"""
READ = """() => import("/tidings.js").then(({ Tidings }) => new Promise((resolve) => {
  const got = [];
  const source = new Tidings("/stream?end", { share: false });
  for (const type of ["message", "test"]) {
    source.addEventListener(type, ({ data, lastEventId }) => got.push([type, data, lastEventId]));
  }
  source.onerror = () => {
    source.close();
    resolve(got);
  };
}))"""

GIVE_TOKEN = """(token) => {
  const button = document.querySelector("#open-token");
  button.focus(); // as a click of a user does: the focus returns here when the dialog closes
  button.click();
  document.querySelector("#token-field").value = token;
  document.querySelector("#token").requestSubmit();
}"""
HAS_NO_FIELD = "() => !document.activeElement.closest('input, dialog')"
PRESS = """(keys) => keys.forEach((key) => document.activeElement.dispatchEvent(
  new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true })))"""
# Its row may be below those of presence events: the stream that the page had without a token ends.
OPEN_BY_KEYS = f"""(topic) => {{
  const rows = [...document.querySelectorAll("#event-rows tr")];
  const at = rows.findIndex((it) => it.innerText.includes(topic));
  ({PRESS})([...Array(at + 1).fill("ArrowDown"), "Enter"]);
}}"""


@pytest.fixture(name="tab", scope="module")
def _tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    with firefox(tmp_path_factory.mktemp("firefox")) as tab:
        yield tab


def test_sources_survive_a_restart_of_the_hub_without_loss_or_double(
    tab: Firefox, tmp_path: Path
) -> None:
    env = {"TIDINGS_BROKER_URL": f"sqlite:///{tmp_path}/log.db", "TIDINGS_RETRY": "0.1"}
    env |= {"TIDINGS_DEMO": "0", "TIDINGS_DRAIN": "1"}
    bind = ["-b", f"127.0.0.1:{free_port()}"]
    with serving(bind, env, tmp_path / "first" / "log") as server:
        tab.goto(f"{server.url}/healthz")
        tab.evaluate(SUBSCRIBE)
        until(lambda: tab.evaluate("() => sources.every((it) => it.readyState === 1)"), "open")
        server.publish("before")
        until(lambda: tab.evaluate("() => Object.values(got).every((it) => it.length)"), "got")
        server.stop()
    with serving(bind, env, tmp_path / "second" / "log") as again:
        again.publish("meanwhile")
        until(lambda: tab.evaluate("() => sources.every((it) => it.readyState === 1)"), "open")
        again.publish("after")
        wanted = ["before", "meanwhile", "after"]
        until(lambda: all(len(it) >= 3 for it in tab.evaluate("() => got").values()), "got")
        assert tab.evaluate("() => got") == {"0": wanted, "1": wanted, "2": wanted}


def test_sources_stop_when_their_topic_has_ended(tab: Firefox, server: Server, topic: str) -> None:
    tab.goto(f"{server.url}/healthz")
    tab.evaluate(SUBSCRIBE, topic)
    until(lambda: tab.evaluate("() => sources.every((it) => it.readyState === 1)"), "open")
    server.publish("one", topic=topic)
    server.publish("last", topic=topic, end="1")
    until(lambda: tab.evaluate("() => sources.every((it) => it.readyState === 2)"), "closed")
    wanted = ["one", "last"]
    assert tab.evaluate("() => got") == {"0": wanted, "1": wanted, "2": wanted}


def test_the_pages_show_what_is_published(tab: Firefox, server: Server) -> None:
    for path, begin in (
        ("/", "() => null"),
        ("/console", "() => document.querySelector('form')?.requestSubmit()"),
    ):
        tab.goto(f"{server.url}{path}")
        tab.evaluate(begin)
        text = f"for Firefox at {path}"

        def is_shown(text: str = text) -> bool:
            server.publish(text)
            return bool(tab.evaluate("(text) => document.body.innerText.includes(text)", text))

        until(is_shown, f"{path} shows it")


USE_TOKEN = """(token) => {
  document.getElementById("change-token").click();
  document.getElementById("token-field").value = token;
  document.getElementById("token").requestSubmit();
}"""
PUBLISH = """(data) => {
  document.getElementById("data").value = data;
  document.getElementById("publish").requestSubmit();
}"""
SHOWN = "() => document.getElementById('scope').textContent"
ITEMS = "() => [...document.querySelectorAll('#events li')].map((it) => it.textContent)"


def test_the_live_page_takes_a_token(tab: Firefox, serve: Callable[..., Server]) -> None:
    hub = serve(TIDINGS_JWT_KEY=KEY)
    headers = authorization(token(publish=["*"]))
    hub.http.post(
        "/events", data={"topic": "/users/7", "data": "x", "private": "1"}, headers=headers
    )
    tab.goto(hub.url)
    until(lambda: "Private events need a token" in tab.evaluate(SHOWN), "it shows public events")
    tab.evaluate(USE_TOKEN, token(publish=["events"], subscribe=["/users/7"]))
    until(lambda: "private events of /users/7" in tab.evaluate(SHOWN), "it names what is granted")
    tab.evaluate(PUBLISH, "hello")
    wanted = ["/users/7 private x", "New event: hello"]
    until(lambda: tab.evaluate(ITEMS) == wanted, "it shows both events")


def test_the_module_reads_each_byte_as_the_standard_says(tab: Firefox) -> None:
    with plain_server() as (url, plain):
        tab.goto(url)
        for name, (stream, expected) in CASES.items():
            plain.parts[:] = [stream.encode() if isinstance(stream, str) else stream]
            assert [tuple(event) for event in tab.evaluate(READ)] == expected, name


def test_the_console_takes_a_token_and_opens_an_event_by_keys(
    tab: Firefox, serve: Callable[..., Server], topic: str
) -> None:
    hub = serve(TIDINGS_JWT_KEY=KEY, TIDINGS_DEMO="0")
    pasted = jwt.encode({"mercure": {"publish": ["*"], "subscribe": ["*"]}}, KEY)
    event = {"topic": topic, "data": '{"only": "here"}', "private": "on"}
    headers = {"Authorization": f"Bearer {pasted}"}
    assert hub.http.post("/events", data=event, headers=headers).status_code == 200
    tab.goto(f"{hub.url}/console")

    def is_shown(selector: str, text: str) -> bool:
        read = "(selector) => document.querySelector(selector)?.innerText ?? ''"
        return text in tab.evaluate(read, selector)

    until(lambda: is_shown("#state", "Token required"), "it asks for a token")
    tab.evaluate(GIVE_TOKEN, pasted)
    until(lambda: is_shown("#state", "Connected"), "it is connected")
    until(lambda: is_shown("#event-rows", topic), "it shows the private event")
    until(lambda: tab.evaluate(HAS_NO_FIELD), "nobody types in the dialog any more")
    tab.evaluate(OPEN_BY_KEYS, topic)
    until(lambda: is_shown("#event-data", '"only": "here"'), "the panel has its data")
    tab.evaluate(PRESS, ["Escape"])
    assert tab.evaluate("() => document.querySelector('#event').hidden")
