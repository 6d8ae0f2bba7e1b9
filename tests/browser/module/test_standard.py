"""What the HTML standard says about a stream: its bytes, and its Content-Type."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.event_stream_cases import CASES

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from support.plain_server import Plain

READ = """(kind) => import("/tidings.js").then(({ Tidings }) => new Promise((resolve) => {
  const got = [];
  const source = new { Tidings, EventSource }[kind]("/stream?end", { share: false });
  for (const type of ["message", "test"]) {
    source.addEventListener(type, ({ data, lastEventId }) => got.push([type, data, lastEventId]));
  }
  source.onerror = ({ data }) => {
    source.close();
    resolve([got, data]);
  };
}))"""


def test_it_reads_each_byte_as_the_standard_says(beside: tuple[Page, type[Plain]]) -> None:
    page, server = beside
    for name, (stream, expected) in CASES.items():
        raw = stream.encode() if isinstance(stream, str) else stream
        for step in (1, 1000):
            server.parts[:] = [raw[i : i + step] for i in range(0, min(len(raw), 500), step)]
            server.parts.append(raw[500:])
            got, _ = page.evaluate(READ, "Tidings")
            assert [tuple(event) for event in got] == expected, (name, step)


OPENS = """(kind) => import("/tidings.js").then(({ Tidings }) => new Promise((resolve) => {
  const source = new { Tidings, EventSource }[kind]("/stream?end", { share: false });
  source.onopen = source.onerror = ({ type, data }) => {
    source.close();
    resolve([type, data?.detail]);
  };
}))"""
CONTENT_TYPES = {
    "text/event-stream": "open",
    "text/event-stream;charset=utf-8": "open",
    "TEXT/Event-Stream ; x=y": "open",
    "text/event-stream;": "open",
    "text/event-stream;bogus": "open",
    'text/event-stream;x="a,b"': "open",
    "text/html, text/event-stream": "open",
    "text/html\ntext/event-stream": "open",
    "text/event-stream, text/html": "error",
    "text/event-stream\ntext/html": "error",
    "text/event-stream-bogus": "error",
    "text/event-streaming; charset=utf-8": "error",
    "text /event-stream": "error",
    "text/html": "error",
    "": "error",
}


def test_only_a_stream_opens_it_and_the_error_names_what_came(
    beside: tuple[Page, type[Plain]],
) -> None:
    page, server = beside
    server.parts[:] = [b"data: <b>no stream</b>\n\n" * 50]  # Chromium guesses from the body
    for kind, outcome in CONTENT_TYPES.items():
        server.kinds[:] = kind.split("\n") if kind else []
        native, _ = page.evaluate(OPENS, "EventSource")
        ours, detail = page.evaluate(OPENS, "Tidings")
        assert (native, ours) == (outcome, outcome), kind
        if outcome == "error":
            assert (kind.replace("\n", ", ") or "missing") in detail
    server.kinds[:] = ["text/event-stream; charset=windows-1251"]  # which Chromium refuses
    assert page.evaluate(OPENS, "Tidings")[0] == "open"
