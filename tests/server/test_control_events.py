"""With and without control events, on both paths."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.server import Server

EVENTS, MERCURE = "/events", "/.well-known/mercure"
STREAM = {"Accept": "text/event-stream"}
FIRST = r"retry: \d+\nid: \d+-\d+\n"
WITH, WITHOUT = [(EVENTS, {}), (MERCURE, {"control": 1})], [(EVENTS, {"control": 0}), (MERCURE, {})]


@pytest.fixture(name="full", scope="module")
def _full(serve: Callable[..., Server]) -> Server:
    return serve(TIDINGS_MAX_SUBSCRIBERS="1", TIDINGS_DEMO="0")


@pytest.mark.parametrize(("path", "query"), WITH)
def test_the_stream_begins_with_hub_open(
    server: Server, topic: str, path: str, query: dict[str, Any]
) -> None:
    with server.listen(path, topic=topic, **query) as stream:
        assert stream.next().type == "hub.open"


@pytest.fixture(name="short", scope="module")
def _short(serve: Callable[..., Server]) -> Server:
    """A hub that ends each stream after a second."""
    return serve(TIDINGS_MAX_AGE="1", TIDINGS_HEARTBEAT="0.2", TIDINGS_DEMO="0")


@pytest.mark.parametrize(("path", "query"), WITHOUT)
def test_nothing_of_the_hub_ends_in_a_blank_line(
    short: Server, topic: str, path: str, query: dict[str, Any]
) -> None:
    with short.listen(path, topic=topic, **query) as stream:
        short.publish("x", topic=topic)
        assert [(event.type, event.data) for event in stream.rest()] == [("message", "x")]
    raw = stream.raw.decode().replace(":\n", "")
    assert re.fullmatch(FIRST + r"id: \d+-\d+\ndata: x\n\nretry: \d+\n", raw)


@pytest.mark.parametrize("control", [0, 1])
def test_on_mercures_path_a_header_says_that_the_cursor_is_unknown(
    server: Server, topic: str, control: int
) -> None:
    query: dict[str, Any] = {"topic": topic, "control": control, "last_event_id": "urn:unknown"}
    with server.listen(MERCURE, **query) as stream:
        assert stream.headers["Last-Event-ID"] == "earliest"
        assert stream.headers["Mercure-Last-Event-ID"] == "earliest"
        server.publish("x", topic=topic)
        assert stream.take(1) == ["x"]


@pytest.mark.parametrize(("cursor", "reason"), [("urn:unknown", "unknown"), ("1-1", "aged")])
def test_on_events_an_unknown_cursor_is_410_with_the_reason(
    server: Server, topic: str, cursor: str, reason: str
) -> None:
    server.publish("x", topic=topic)
    query: dict[str, Any] = {"topic": topic, "control": 0, "last_event_id": cursor}
    answer = server.http.get(EVENTS, params=query, headers=STREAM)
    assert (answer.status_code, answer.json()["reason"]) == (410, reason)
    with server.listen(EVENTS, **query | {"control": 1}) as stream:
        assert [stream.next().type, stream.next().type] == ["hub.open", "hub.reset"]


@pytest.mark.parametrize(
    ("path", "control", "status", "body"),
    [
        (EVENTS, 1, 200, r'retry: \d+\nevent: hub.bye\ndata: {"reason": "full"}\n\n'),
        (MERCURE, 1, 200, r'retry: \d+\nevent: hub.bye\ndata: {"reason": "full"}\n\n'),
        (EVENTS, 0, 503, r".*\n"),
        (MERCURE, 0, 200, r"retry: \d+\n"),
    ],
)
def test_a_full_hub_says_so_in_the_form_that_was_asked_for(
    full: Server, path: str, control: int, status: int, body: str
) -> None:
    topic = f"{path}-{control}"
    with full.listen(topic=topic):
        query: dict[str, Any] = {"topic": "t", "control": control}
        answer = full.http.get(path, params=query, headers=STREAM)
        assert answer.status_code == status
        assert re.fullmatch(body, answer.text)
    until(lambda: full.left(topic), "the hub has room for the next test")


@pytest.mark.parametrize("value", ["", "2", "off"])
def test_another_value_is_refused_with_the_remedy(server: Server, value: str) -> None:
    answer = server.http.get(EVENTS, params={"control": value})
    assert answer.status_code == 400
    assert "control=1" in answer.json()["remedy"]
