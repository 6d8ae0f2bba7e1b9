"""`tidings delete`: one event, or all of a topic."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.cli import within_test

if TYPE_CHECKING:
    from support.server import Server

pytestmark = pytest.mark.slow


def test_it_removes_an_event_or_a_topic_and_prints_how_many(server: Server, topic: str) -> None:
    event_id = server.publish("1", topic=topic)
    server.publish("2", topic=topic)
    server.publish("3", topic=topic)
    assert within_test("delete", topic, event_id, TIDINGS_URL=server.url).output == "1\n"
    assert within_test("delete", topic, event_id, TIDINGS_URL=server.url).output == "0\n"
    assert within_test("--url", server.url, "delete", topic, "--yes").output == "2\n"
    refused = within_test("delete", "*", "--yes", TIDINGS_URL=server.url)
    assert (refused.exit_code, "is a pattern" in refused.output) == (1, True)
