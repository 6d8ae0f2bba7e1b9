"""What the module derives from `hub.open`: its patience, and when a token is to be renewed."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from support.tabs import met
from support.waiting import until

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

    from support.plain_server import Plain

START = """async (token) => {
  const { Tidings } = await import("/tidings.js");
  window.calls = 0;
  window.said = [];
  const tokens = { fresh: () => `token-${++calls}`, cached: async () => `${++calls && "cached"}` };
  tokens.none = async () => undefined;
  window.source = new Tidings("/stream", { token: tokens[token] });
  for (const type of ["open", "error", "event:open", "event:error", "hub.open", "hub.expiring"]) {
    source.addEventListener(type, ({ data }) => said.push(`${type} ${data ?? ""}`.trim()));
  }
}"""


def control_event(type_: str, **fields: Any) -> bytes:
    return f"event: {type_}\ndata: {json.dumps(fields)}\n\n".encode()


def said(page: Page, text: str) -> None:
    met(page, "(text) => said.some((it) => it.startsWith(text))", text)


@pytest.mark.parametrize(("heartbeat", "patient_s", "silent_s"), [(60, 170, 60), (1, 4, 15)])
def test_it_waits_for_three_heartbeats_of_the_hub(
    context: BrowserContext,
    beside: tuple[Page, type[Plain]],
    heartbeat: int,
    patient_s: int,
    silent_s: int,
) -> None:
    page, server = beside
    context.clock.install()
    server.parts = [control_event("hub.open", heartbeat=heartbeat, now=0)]
    page.evaluate(START, "absent")
    said(page, "hub.open")
    context.clock.run_for(patient_s * 1000)
    assert len(server.asked) == 1
    context.clock.run_for(silent_s * 1000)
    until(lambda: len(server.asked) > 1, "it connects again")


@pytest.mark.parametrize("clock_s", [-300, 0, 300])
def test_a_wrong_clock_does_not_renew_a_token_more_often(
    context: BrowserContext, beside: tuple[Page, type[Plain]], clock_s: int
) -> None:
    page, server = beside
    now = time.time()
    context.clock.install(time=now + clock_s)
    server.parts = [control_event("hub.open", now=now * 1000, heartbeat=15)]
    server.parts += [control_event("hub.expiring", expires=now + 45)]
    page.evaluate(START, "fresh")
    said(page, "hub.expiring")
    context.clock.run_for(20_000)
    assert server.tokens == ["Bearer token-1"]
    context.clock.run_for(5_000)
    until(lambda: server.tokens == ["Bearer token-1", "Bearer token-2"], "it connects again")


def test_a_stored_token_is_no_reason_to_connect_again(
    context: BrowserContext, beside: tuple[Page, type[Plain]]
) -> None:
    page, server = beside
    now = time.time()
    context.clock.install(time=now)
    server.parts = [control_event("hub.open", now=now * 1000, heartbeat=60)]
    server.parts += [control_event("hub.expiring", expires=now + 40)]
    page.evaluate(START, "cached")
    said(page, "hub.expiring")
    for _ in range(45):
        context.clock.run_for(1_000)
    met(page, "() => calls > 2")
    assert page.evaluate("calls") < 8
    assert server.tokens == ["Bearer cached"]


def test_without_a_token_it_sends_none(beside: tuple[Page, type[Plain]]) -> None:
    page, server = beside
    server.parts = [control_event("hub.open", heartbeat=15, now=0)]
    page.evaluate(START, "none")
    said(page, "hub.open")
    assert server.tokens == [None]
    assert "control=1" in server.asked[0][0]


def test_published_types_do_not_look_like_the_connections_own_events(
    beside: tuple[Page, type[Plain]],
) -> None:
    page, server = beside
    server.parts = [b"event: open\ndata: 1\n\nevent: error\ndata: 2\n\n"]
    page.evaluate(START, "absent")
    said(page, "event:error")
    assert page.evaluate("said") == ["open", "event:open 1", "event:error 2"]


WITHOUT_SECONDS = """() => {
  const { setTimeout } = window;
  window.setTimeout = (call, ms) => ms === 1000 || setTimeout(call, ms);
}"""


@pytest.mark.parametrize(
    "part",
    [b"retry: 100\n", b"retry: 100\n" + control_event("hub.bye", reason="full")],
    ids=["of a proxy while the hub is away", "of a full hub"],
)
def test_an_answer_that_only_says_when_to_come_back_does_not_open_it(
    beside: tuple[Page, type[Plain]], part: bytes
) -> None:
    page, server = beside
    server.parts = [part]
    page.evaluate(WITHOUT_SECONDS)  # or a busy machine takes one to read this
    page.evaluate(START.replace("/stream", "/stream?end"), "absent")
    met(page, "() => said.length > 2")
    assert {it.split()[0] for it in page.evaluate("said")} == {"error"}


def test_a_server_that_sends_nothing_opens_it_after_a_second(
    context: BrowserContext, beside: tuple[Page, type[Plain]]
) -> None:
    page, server = beside
    context.clock.install()
    page.evaluate(START, "absent")
    until(lambda: server.asked, "it connects")
    for _ in range(3):
        context.clock.run_for(1000)
    said(page, "open")


def test_a_comment_opens_it(beside: tuple[Page, type[Plain]]) -> None:
    page, server = beside
    server.parts = [b":\n"]
    page.evaluate(WITHOUT_SECONDS)
    page.evaluate(START, "absent")
    said(page, "open")
