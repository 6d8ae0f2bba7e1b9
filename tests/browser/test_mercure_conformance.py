"""The eleven checks of Mercure's own conformance tests (0.x), in Chromium.

Theirs wait two seconds for an event that must not arrive. These publish another event after it, as
events arrive in order. Theirs also use an id twice, so that a private event was never published.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from support.tokens import KEY, token

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

    from support.server import Server

CHECK = """async ([token, selectors, topics, id, data, isPrivate, end]) => {
  const url = new URL("/.well-known/mercure", origin);
  selectors.forEach((selector) => url.searchParams.append("topic", selector));
  url.searchParams.append("topic", end);
  const source = new EventSource(url);
  await new Promise((resolve) => (source.onopen = resolve));
  const seen = [];
  const over = new Promise((resolve) => {
    source.onmessage = (event) => {
      if (event.data === end) return resolve();
      seen.push([event.type, event.lastEventId, event.data]);
    };
  });
  const publish = async (fields) => {
    const headers = { Authorization: `Bearer ${token}` };
    const body = new URLSearchParams(fields);
    const answer = await fetch("/.well-known/mercure", { method: "POST", headers, body });
    return [answer.status, answer.headers.get("Content-Type"), await answer.text()];
  };
  const fields = [...topics.map((topic) => ["topic", topic]), ["id", id], ["data", data]];
  const answer = await publish(isPrivate ? [...fields, ["private", "on"]] : fields);
  await publish([["topic", end], ["data", end]]);
  await over;
  source.close();
  return { answer, seen };
}"""
URI, NAME = "https://example.net/foo/{}", "{}"
CHECKS: dict[str, tuple[list[str], list[str], bool, bool]] = {
    "raw string": ([NAME], [NAME], False, True),
    "multiple topics": (["other-{}", NAME], [NAME], False, True),
    "multiple topic selectors": ([NAME], ["foo", NAME], False, True),
    "URI": ([URI], [URI], False, True),
    "URI template": ([URI], ["https://example.net/foo/{random}"], False, True),
    "nonmatching raw string": (["will-not-match}"], ["another-name"], False, False),
    "nonmatching URI": (
        ["https://example.net/foo/x}"],
        ["https://example.net/foo/y"],
        False,
        False,
    ),
    "nonmatching URI template": (
        ["https://example.net/foo/x}"],
        ["https://example.net/bar/{var}"],
        False,
        False,
    ),
    "private raw string": ([NAME], [NAME], True, False),
    "private URI": ([URI], [URI], True, False),
    "private URI template": ([URI], ["https://example.net/foo/{random}"], True, False),
}


@pytest.fixture(name="hub", scope="module")
def _hub(serve: Callable[..., Server]) -> Server:
    return serve(TIDINGS_JWT_KEY=KEY)


@pytest.mark.parametrize("name", CHECKS)
def test_mercures_conformance_check_passes(hub: Server, page: Page, name: str) -> None:
    topics, selectors, private, received = CHECKS[name]
    unique = uuid4().hex

    def filled(text: str) -> str:
        return text.replace("{}", unique)

    id_, data = f"id-{json.dumps([unique])}", f"data for\n\n        {name}"
    page.goto(f"{hub.url}/healthz")
    arguments: list[Any] = [
        token(publish=["*"]),
        [filled(it) for it in selectors],
        [filled(it) for it in topics],
        id_,
        data,
        private,
        f"end-{unique}",
    ]
    found = page.evaluate(CHECK, arguments)
    status, content_type, body = found["answer"]
    assert (status, body) == (200, id_)
    assert content_type.startswith("text/plain")
    assert found["seen"] == ([["message", id_, data]] if received else [])
