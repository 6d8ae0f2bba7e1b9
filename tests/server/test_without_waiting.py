"""`wait=0` and JSON: read what the event log has, and do not wait for more."""

from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from support.redis_server import running_redis
from support.tokens import KEY, authorization, token
from support.waiting import until
from webapp.core.events import EventId

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.server import Server

JSON = {"Accept": "application/json"}
PATHS = ["/events", "/.well-known/mercure"]


def document(server: Server, path: str = "/events", **query: Any) -> dict[str, Any]:
    answer = server.http.get(path, params=query, headers=JSON)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    found: dict[str, Any] = answer.json()
    assert found.keys() == {"events", "last_id", "more", "reset", "ended"}
    return found


def parsed(id_: str) -> EventId:
    position = EventId.parse(id_)
    assert position
    return position


def data(page: dict[str, Any]) -> list[str]:
    return [event["data"] for event in page["events"]]


# Streams


@pytest.mark.parametrize("path", PATHS)
def test_a_stream_ends_with_a_mark_after_what_there_is(
    server: Server, topic: str, path: str
) -> None:
    ids = [server.publish(str(number), topic=topic) for number in range(3)]
    other = server.publish(topic=f"{topic}/other")
    starts: list[tuple[dict[str, Any], list[str]]] = [
        ({"last_event_id": ids[0]}, ["1", "2"]),
        ({"last_event_id": "earliest"}, ["0", "1", "2"]),
        ({"last": 2}, ["1", "2"]),
        ({"since": "1h"}, ["0", "1", "2"]),
        ({"last_event_id": ids[2]}, []),
        ({}, []),
    ]
    for start, expected in starts:
        with server.listen(path, topic=topic, wait="0", control="1", **start) as stream:
            opened, *rest, mark = stream.rest()
        assert (opened.type, mark.type, mark.data) == ("hub.open", "hub.mark", "{}")
        assert [it.data for it in rest] == expected
        assert parsed(mark.id) >= parsed(other)


def test_a_snapshot_that_waits_for_nothing_ends_with_one_mark(server: Server, topic: str) -> None:
    query: dict[str, Any] = {"topic": f"{topic}/{{x}}", "latest": "1", "wait": "0"}
    with server.listen(**query) as stream:
        empty = stream.rest()
    assert [it.type for it in empty] == ["hub.open", "hub.mark"]
    assert empty[1].id
    for text, name in (("old", "a"), ("1", "b"), ("2", "a")):
        server.publish(text, topic=f"{topic}/{name}")
    with server.listen(**query) as stream:
        opened, *snapshot, mark = stream.rest()
    assert (opened.type, opened.id, mark.type) == ("hub.open", "", "hub.mark")
    assert [it.data for it in snapshot] == ["1", "2"]
    assert snapshot[-1].id == mark.id


def test_without_control_events_nothing_of_the_hubs_own_is_an_event(
    server: Server, topic: str
) -> None:
    for path in PATHS:
        with server.listen(path, topic=topic, wait="0", control="0") as stream:
            assert stream.rest() == []
    id_ = server.publish("x", topic=topic)
    with server.listen(topic=topic, wait="0", control="0", last="1") as stream:
        assert [it.data for it in stream.rest()] == ["x"]
    assert stream.raw.endswith(b"id: %b\ndata: x\n\n" % id_.encode())
    answer = server.http.get("/events", params={"last_event_id": "lost", "wait": 0, "control": 0})
    assert answer.status_code == 410


def test_it_counts_as_a_stream_that_is_complete(server: Server, topic: str) -> None:
    with server.listen(topic=topic, wait="0") as stream:
        stream.rest()
    until(lambda: server.left(topic) == 1, "its end is logged")
    assert (
        f"stream ended: reason=complete seconds=0.0 events=0 client=127.0.0.1 topics={topic}"
        in (server.log)
    )


def test_it_neither_starts_the_demo_nor_joins_the_list_of_subscribers(
    serve: Callable[..., Server],
) -> None:
    bearer = authorization(token(subscribe=["*"]))
    hub = serve(TIDINGS_JWT_KEY=KEY, TIDINGS_DEMO="1")
    presence = "/.well-known/mercure/subscriptions/{topic}/{subscriber}"
    with hub.listen(topic=presence, headers=bearer) as joined:
        opened = json.loads(joined.next().data)
        with hub.listen(topic="events", headers=bearer, wait="0", last="9") as stream:
            first, *events = stream.rest()
        assert "subscriber" in opened
        assert "subscriber" not in json.loads(first.data)
        assert [it.type for it in events] == ["hub.mark"]
        with hub.listen(topic="news", headers=bearer) as stream:
            stream.next()
            assert [json.loads(it)["topic"] for it in joined.take(2)] == [presence, "news"]
    with hub.listen(topic="events", headers=bearer, wait="0", last="9") as stream:
        assert [it.type for it in stream.rest()] == ["hub.open", "hub.mark"]


def test_a_value_other_than_0_and_1_is_refused(server: Server) -> None:
    answer = server.http.get("/events", params={"wait": "no"})
    assert answer.json()["detail"] == "The parameter wait must be 1 or 0."


# Documents


@pytest.mark.parametrize("path", PATHS)
def test_a_document_has_the_oldest_events_after_the_start(
    server: Server, topic: str, path: str
) -> None:
    ids = [server.publish(str(number), topic=topic, type="t") for number in range(3)]
    page = document(server, path, topic=topic, last_event_id="earliest", limit=2)
    assert data(page) == ["0", "1"]
    assert page["events"][0] == {
        "id": ids[0],
        "topic": topic,
        "topics": [topic],
        "type": "t",
        "time": parsed(ids[0]).ms,
        "private": False,
        "data": "0",
    }
    ends = {"reset": None, "ended": False}
    assert {**page, "events": []} == {"events": [], "last_id": ids[1], "more": True, **ends}
    page = document(server, path, topic=topic, last_event_id=ids[1], limit=1)
    assert (data(page), page["last_id"], page["more"]) == (["2"], ids[2], False)
    assert data(document(server, path, topic=topic, last=2)) == ["1", "2"]
    assert data(document(server, path, topic=topic, since="1h", limit=1)) == ["0"]


def test_where_nothing_is_listed_it_names_the_cursor_or_the_end(server: Server, topic: str) -> None:
    first = server.publish("x", topic=topic, id=f"{topic} own")
    newest = server.publish(topic=f"{topic}/other")
    for cursor in (first, newest):
        page = document(server, topic=topic, last_event_id=cursor)
        assert (page["events"], page["last_id"]) == ([], cursor)
    several = [first, "lost"]
    for query in ({}, {"last": 0}, {"last_event_id": "lost"}, {"last_event_id": several}):
        page = document(server, topic=f"{topic}/other", **query)
        assert parsed(page["last_id"]) >= parsed(newest), query
        assert page["reset"] == ("unknown" if query.get("last_event_id") else None)


def test_the_last_id_is_a_position_because_several_events_may_have_one_id(
    server: Server, topic: str
) -> None:
    names, own = [f"{topic}/a", f"{topic}/b"], f"{topic} same"
    for name in names:
        server.publish(name, topic=name, id=own)
    page = document(server, topic=names, last_event_id="earliest")
    assert [it["id"] for it in page["events"]] == [own, own]
    assert document(server, topic=names, last_event_id=page["last_id"])["events"] == []


def test_a_snapshot_is_listed_as_of_its_position(server: Server, topic: str) -> None:
    for text, name in (("old", "a"), ("1", "b"), ("2", "a")):
        server.publish(text, topic=f"{topic}/{name}")
    last = server.publish(topic=f"{topic}/c/d")
    pattern = f"{topic}/{{x}}"
    page = document(server, topic=pattern, latest=1, limit=2)
    assert (data(page), page["more"], page["reset"]) == (["1", "2"], False, None)
    assert parsed(page["last_id"]) >= parsed(last)
    answer = server.http.get(
        "/events", params={"topic": pattern, "latest": 1, "limit": 1}, headers=JSON
    )
    assert (answer.status_code, answer.json()["reason"]) == (400, "snapshot")
    new = server.publish("3", topic=f"{topic}/a")
    page = document(server, topic=pattern, latest=1, last_event_id=page["last_id"])
    assert (data(page), page["last_id"]) == (["3"], new)
    page = document(server, topic=pattern, latest=1, last_event_id="lost")
    assert (data(page), page["reset"]) == (["1", "3"], "unknown")


def test_a_document_says_when_no_more_events_can_follow(server: Server, topic: str) -> None:
    names = [f"{topic}/a", f"{topic}/b"]
    server.publish("1", topic=names[0])
    last = server.publish("2", topic=names[0], end="1")
    page = document(server, topic=names[0], last_event_id="earliest", limit=1)
    assert (data(page), page["more"], page["ended"]) == (["1"], True, False)
    page = document(server, topic=names[0], last_event_id=page["last_id"])
    assert (data(page), page["last_id"], page["ended"]) == (["2"], last, True)
    assert document(server, topic=names[0], last_event_id=last)["ended"] is True
    assert document(server, topic=names, last_event_id=last)["ended"] is False
    assert document(server, topic=f"{topic}/{{x}}", last_event_id=last)["ended"] is False
    server.publish(topic=names[1], end="1")
    assert document(server, topic=names, latest=1)["ended"] is True


STREAMS = [
    "text/event-stream",
    "*/*",
    "application/json, text/event-stream",
    "application/json, text/plain, */*",
    "application/json;q=0.1, text/*;q=0",
    "application/*",
    "application/problem+json",
    "application/jsonx",
]


@pytest.mark.parametrize("accept", STREAMS)
def test_in_doubt_the_client_gets_a_stream(server: Server, topic: str, accept: str) -> None:
    with server.listen(topic=topic, headers={"Accept": accept}) as stream:
        assert stream.headers["Content-Type"].startswith("text/event-stream")


def test_naming_json_alone_gets_json_unless_it_waits(server: Server, topic: str) -> None:
    for accept in ("application/json", "text/html, Application/JSON;q=0.5"):
        answer = server.http.head("/events", params={"topic": topic}, headers={"Accept": accept})
        assert answer.headers["Content-Type"] == "application/json"
        answer = server.http.get(
            "/events", params={"topic": topic, "wait": 0}, headers={"Accept": accept}
        )
        assert answer.headers["Content-Type"] == "application/json"
    with server.listen(topic=topic, headers=JSON, wait="1") as stream:
        assert stream.next().type == "hub.open"


def test_an_answer_that_has_not_changed_is_not_sent_again(server: Server, topic: str) -> None:
    server.publish("x", topic=topic)
    query = {"topic": topic, "last_event_id": "earliest"}
    answer = server.http.get("/events", params=query, headers=JSON)
    assert answer.headers["Cache-Control"] == "private, no-cache"
    assert answer.headers["Vary"] == "Accept"
    headers = {**JSON, "If-None-Match": answer.headers["ETag"]}
    server.publish(topic=f"{topic}/other")
    again = server.http.get("/events", params=query, headers=headers)
    assert (again.status_code, again.content) == (304, b"")
    server.publish("y", topic=topic)
    assert data(server.http.get("/events", params=query, headers=headers).json()) == ["x", "y"]


@pytest.mark.parametrize("limit", ["0", "1001", "x", "-1", ""])
def test_a_limit_out_of_bounds_is_refused(server: Server, limit: str) -> None:
    answer = server.http.get("/events", params={"limit": limit}, headers=JSON)
    assert answer.json()["detail"] == (
        "The parameter limit must be a number of events from 1 to 1000."
    )


def test_private_events_are_listed_for_their_readers_only(serve: Callable[..., Server]) -> None:
    hub = serve(TIDINGS_JWT_KEY=KEY, TIDINGS_ANONYMOUS="1", TIDINGS_DEMO="0")
    form = {"topic": ["news", "/users/1", "/users/2"], "data": "x", "private": 1}
    publisher = authorization(token(publish=["*"]))
    hub.http.post("/events", data=form, headers=publisher).raise_for_status()
    query: dict[str, Any] = {"topic": "news", "last": 1}
    assert hub.http.get("/events", params=query, headers=JSON).json()["events"] == []
    reader = {**JSON, **authorization(token(subscribe=["/users/2"]))}
    [event] = hub.http.get("/events", params=query, headers=reader).json()["events"]
    assert event["topics"] == ["/users/2"]


def test_an_event_that_another_worker_has_answered_is_listed(serve: Callable[..., Server]) -> None:
    hub = serve("-w", "2", TIDINGS_DEMO="0")
    for number in range(20):  # the connections come to both workers
        hub.publish(str(number), topic="t")
        headers = {**JSON, "Connection": "close"}
        page = hub.http.get("/events", params={"topic": "t", "last": 1}, headers=headers).json()
        assert data(page) == [str(number)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("broker", "trims"),
    [("memory", False), ("sqlite", False), ("sqlite", True), ("redis", False)],
)
def test_paging_through_a_log_that_grows_lists_each_event_once(
    serve: Callable[..., Server], broker: str, tmp_path: Path, *, trims: bool
) -> None:
    with ExitStack() as stack:
        url = {"memory": "memory://"}.get(broker, f"sqlite:///{tmp_path}/log.db")
        if broker == "redis":
            url = stack.enter_context(running_redis("redis-server", tmp_path)).url
        workers = "1" if broker == "memory" else "2"
        # An event must be there until its publisher has found its position.
        limits = {"TIDINGS_HISTORY_EVENTS": "60"} if trims else {}
        hub = serve("-w", workers, TIDINGS_BROKER_URL=url, TIDINGS_WINDOW_EVENTS="10", **limits)
        start = document(hub, topic="a")["last_id"]
        patterns = [["a"], ["a", "b/{x}"], ["{x}"], ["*"]]
        with ThreadPoolExecutor(8) as threads:
            publishers = [threads.submit(publish_some, hub, seed) for seed in range(2)]
            readers = [
                threads.submit(read_all, hub, it, start, lambda: all(p.done() for p in publishers))
                for it in patterns
            ]
            published = sorted(event for it in publishers for event in it.result(120))
            pages = [it.result(120) for it in readers]
        for names, (found, resets) in zip(patterns, pages, strict=True):
            wanted = [text for _, name, text in published if is_wanted(names, name)]
            assert len(set(found)) == len(found)
            assert [text for text in wanted if text in {*found}] == found
            assert found[-1] == wanted[-1]
            assert found == wanted or (trims and resets and set(resets) == {"aged"})


def is_wanted(patterns: list[str], name: str) -> bool:
    return (
        "*" in patterns
        or name in patterns
        or ("{x}" in patterns and "/" not in name)
        or ("b/{x}" in patterns and name.startswith("b/"))
    )


def publish_some(server: Server, seed: int) -> list[tuple[EventId, str, str]]:
    chance, published = random.Random(seed), []
    for step in range(25):
        names = [chance.choice(["a", "c", "b/1", "b/2"]) for _ in range(chance.randrange(1, 6))]
        events = [{"topic": name, "data": f"{seed} {step} {n}"} for n, name in enumerate(names)]
        if chance.random() < 0.2:  # ids that events of several topics have, so each is sent alone
            events = [{**events[0], "id": f"{seed} {step % 7}-"}]
        answer = server.http.post("/events", json=events, headers=JSON)
        if answer.status_code == 409:
            continue
        for id_, event in zip(answer.json()["ids"], events, strict=True):
            position = EventId.parse(id_) or located(server, event)
            published.append((position, event["topic"], event["data"]))
    return published


def located(server: Server, event: dict[str, str]) -> EventId:
    """Return the position of an event with an id of its own."""
    start = event["id"]
    with server.listen(wait="0", topic=event["topic"], last_event_id=start) as stream:
        return parsed(stream.next().id)


def read_all(
    server: Server, patterns: list[str], cursor: str, ended: Callable[[], bool]
) -> tuple[list[str], list[str]]:
    """Read pages until nothing is published any more. Return the data and the resets."""
    chance, found, resets = random.Random(str(patterns)), list[str](), list[str]()
    last_round = False
    while True:
        limit = chance.choice([1, 2, 3, 50])
        page = document(server, topic=patterns, last_event_id=cursor, limit=limit)
        found += data(page)
        resets += [page["reset"]] * bool(page["reset"])
        cursor = page["last_id"]
        if last_round and not page["more"]:
            return found, resets
        last_round = last_round or ended()


def test_pages_are_in_order(server: Server, topic: str) -> None:
    for number in range(30):
        server.publish(str(number), topic=topic)
    cursor, pages = "earliest", list[dict[str, Any]]()
    while not pages or pages[-1]["more"]:
        pages.append(document(server, topic=topic, last_event_id=cursor, limit=7))
        cursor = pages[-1]["last_id"]
    assert [len(page["events"]) for page in pages] == [7, 7, 7, 7, 2]
    positions = [parsed(it["id"]) for page in pages for it in page["events"]]
    assert all(before < after for before, after in pairwise(positions))
