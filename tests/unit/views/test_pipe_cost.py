"""What a line of a pipe costs: events with a topic and data alone do not pay for other fields, and
empty lines do not keep others waiting.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from webapp.core.events import Draft, Event, EventId
from webapp.views.bodies import ndjson
from webapp.views.bodies.drafts import DraftParser
from webapp.views.bodies.ndjson import NdjsonPublisher

if TYPE_CHECKING:
    from types import FrameType

_LINES = 500


def calls_per_line(line: bytes, url: dict[str, list[str]]) -> float:
    """Count the functions that are called for a line, from its bytes to its draft."""
    request: Any = SimpleNamespace(mimetype="application/x-ndjson")
    parser, published = DraftParser(request, url, "events"), list[Draft]()

    def append(drafts: list[Draft]) -> Any:
        published.extend(drafts)
        return [SimpleNamespace(id="1")]

    pipe, count = NdjsonPublisher(append, parser.from_value, _LINES), 0

    def profile(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    sys.setprofile(profile)
    try:
        pipe.publish_lines([line] * _LINES)
    finally:
        sys.setprofile(None)
    assert published == [Draft(topics=("t",), data="a: b")] * _LINES
    return count / _LINES


@pytest.mark.parametrize(
    ("line", "url", "most"),
    [
        (b'{"topic":"t","data":"a: b"}', {}, 35),
        (b'{"data":"a: b"}', {"topic": ["t"]}, 40),
    ],
)
def test_a_line_with_a_topic_and_data_takes_few_calls(
    line: bytes, url: dict[str, list[str]], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where the machine is slow, pauses would count, and what others do in them.
    monkeypatch.setattr("webapp.scheduling._SLICE_S", 3600)
    monkeypatch.setattr(ndjson, "request_turns", SimpleNamespace(pause=lambda: None))
    assert calls_per_line(line, url) <= most


@pytest.mark.parametrize("line", [b"", b" ", b'{"data":"x"}'])
def test_many_lines_that_arrive_at_once_yield_to_the_loop(
    line: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = list[str]()
    monkeypatch.setattr(ndjson, "request_turns", SimpleNamespace(pause=lambda: pauses.append("")))
    pipe = NdjsonPublisher(
        lambda drafts: [Event(EventId(1, 0), it) for it in drafts],
        lambda value: Draft(topics=("t",), data=value[0]["data"]),
        _LINES,
    )
    pipe.publish_lines([line] * 10 * _LINES)
    assert len(pauses) == 10
