"""Which lines of a pipe are published together."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from webapp.core.events import Draft
from webapp.views.bodies.drafts import DraftParser
from webapp.views.bodies.ndjson import NdjsonPublisher


@pytest.mark.parametrize(
    ("topics", "lines", "parts"),
    [(1, 500, [500]), (2, 500, [500]), (400, 5, [2, 2, 1]), (1000, 3, [1, 1, 1]), (1, 0, [])],
)
def test_lines_that_are_published_together_have_a_bounded_number_of_topics(
    topics: int, lines: int, parts: list[int]
) -> None:
    request: Any = SimpleNamespace(mimetype="application/x-ndjson")
    parser, published = DraftParser(request, {}, "events"), list[list[Draft]]()

    def append(drafts: list[Draft]) -> Any:
        published.append(drafts)
        return [SimpleNamespace(id="1") for _ in drafts]

    line = json.dumps({"topic": [f"t{n}" for n in range(topics)], "data": "x"}).encode()
    pipe = NdjsonPublisher(append, parser.from_value, 500)
    pipe.publish_lines([line] * lines)
    assert [len(it) for it in published] == parts
    assert pipe.published == lines
