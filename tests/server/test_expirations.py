"""`ttl`: an event that is worth something for a while only."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from support.cli import tidings, within_test
from support.postgres_server import running_postgres
from support.waiting import given_time, until
from webapp.core.events import EventId

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.server import Server

JSON = {"Accept": "application/json"}


@pytest.fixture(name="hub", scope="module", params=["sqlite", "postgres"])
def _hub(request: pytest.FixtureRequest, serve: Callable[..., Server]) -> Iterator[Server]:
    """A hub with each kind of event log in which expiry is a table of the server's."""
    if request.param == "sqlite":
        yield request.getfixturevalue("server")
    else:
        with running_postgres() as server:
            yield serve(TIDINGS_DEMO="0", TIDINGS_BROKER_URL=server.url())


def listed(server: Server, topic: str, **start: Any) -> list[str]:
    query = {"topic": topic, **(start or {"last_event_id": "earliest"})}
    answer = server.http.get("/events", params=query, headers=JSON)
    assert answer.status_code == 200, answer.text
    return [event["data"] for event in answer.json()["events"]]


def streamed(server: Server, topic: str, **start: Any) -> list[str]:
    with server.listen(topic=topic, wait="0", **start) as stream:
        return [it.data for it in stream.rest() if not it.type.startswith("hub.")]


def await_expiry(id_: str, seconds: float = 1) -> None:
    position = EventId.parse(id_)
    assert position
    until(lambda: time.time() > position.ms / 1000 + seconds, "it has expired")


def test_live_subscribers_get_it_and_later_ones_do_not(hub: Server, topic: str) -> None:
    first = hub.publish("stays", topic=topic)
    with hub.listen(topic=topic, last_event_id=first) as stream:
        short = hub.publish("short", topic=topic, ttl="1")
        assert stream.take(1) == ["short"]
        await_expiry(short)
        assert listed(hub, topic) == ["stays"]
        for start in ({"last_event_id": first}, {"since": "1h"}, {"last": "2"}, {"latest": "1"}):
            after = [] if "last_event_id" in start else ["stays"]
            assert listed(hub, topic, **start) == streamed(hub, topic, **start) == after
        [found] = hub.http.get("/topics", params={"topic": topic}).json()["topics"]
        assert (found["last_id"], found["events"]) == (first, 1)
        with hub.listen(topic=topic, last_event_id=short) as resumed:
            assert resumed.next().id == short  # its position is held: no hub.reset follows
            new = hub.publish("new", topic=topic)
            assert [it.id for it in resumed.messages(1)] == [new]
        assert stream.take(1) == ["new"]  # what was before is not sent again


def test_a_topic_whose_events_have_all_expired_is_empty(hub: Server, topic: str) -> None:
    short = hub.publish("short", topic=topic, ttl="1s", id=f"{topic} own")
    with hub.listen(topic=topic, last_event_id=short) as stream:
        await_expiry(stream.next().id)
    assert hub.http.get("/topics", params={"topic": topic}).json()["topics"] == []
    assert listed(hub, topic) == listed(hub, topic, latest=1) == []
    assert hub.publish("short", topic=topic, id=short) == short  # it is not published again
    assert listed(hub, topic) == []
    other = hub.http.post("/events", data={"data": "x", "topic": topic, "id": short})
    assert other.status_code == 409


def each_way(server: Server, topic: str, ttl: Any) -> list[int]:
    """Publish with a ttl in every way there is; return the statuses."""
    event = {"topic": topic, "data": "x", "ttl": ttl}
    post, query = server.http.post, {"topic": topic, "ttl": ttl}
    pipe = {"Content-Type": "application/x-ndjson"}
    line = f'{{"topic": "{topic}", "data": "x"}}\n'
    answers = [
        post("/events", data=event),
        post("/events", files={name: (None, str(it)) for name, it in event.items()}),
        post("/events", json=event),
        post("/events", json=[event, event]),
        post("/events", params=query, json={"data": "x"}),
        post("/events", params=query, content=b"a body", headers={"Content-Type": "text/plain"}),
        post("/events", params={**query, "raw": 1}, json={}),
        post("/events", params={**query, "data": "x"}),
        post("/events", params={"ttl": ttl}, content=line * 2, headers=pipe),
        post("/.well-known/mercure", data=event),
    ]
    return [it.status_code for it in answers]


def test_every_kind_of_request_may_have_one(server: Server, topic: str) -> None:
    def found(seconds: float) -> int:
        assert set(each_way(server, topic, seconds)) == {200}
        return len(listed(server, topic))

    assert given_time(found, lambda number: number == 12, (1, 5, 30)) == 12
    until(lambda: listed(server, topic) == [], "all have expired")


@pytest.mark.parametrize("ttl", ["0", "0.999", "x", "-5", "500ms", "1e3", "never", "9999999999"])
def test_it_is_a_duration_of_a_second_or_more(server: Server, topic: str, ttl: str) -> None:
    assert set(each_way(server, topic, ttl)) == {400}
    answer = server.http.post("/events", data={"topic": topic, "data": "x", "ttl": ttl})
    assert answer.json()["detail"] == "The field ttl must be a duration of a second or more."
    assert answer.json()["remedy"] == "Send seconds, like 90, or a duration like 10m."
    assert listed(server, topic) == []


def test_it_is_not_longer_than_the_event_log_keeps_events(serve: Callable[..., Server]) -> None:
    hub = serve(TIDINGS_HISTORY_AGE="1h")
    assert hub.http.post("/events", data={"data": "x", "ttl": "60m"}).status_code == 200
    answer = hub.http.post("/events", data={"data": "x", "ttl": "61m"})
    assert answer.json()["detail"] == (
        "The ttl is over TIDINGS_HISTORY_AGE, 3600 s: no event is kept so long."
    )
    assert answer.json()["reason"] == "ttl"
    assert answer.status_code == 400


def test_an_empty_one_means_none(server: Server, topic: str) -> None:
    server.publish("x", topic=topic, ttl="")
    answer = server.http.post("/events", json={"topic": topic, "data": "y", "ttl": None})
    assert answer.status_code == 200
    assert listed(server, topic) == ["x", "y"]


def test_the_command_publishes_with_one(server: Server, topic: str) -> None:
    published = within_test("publish", "-t", topic, "--ttl", "1", "x", TIDINGS_URL=server.url)
    options = ["--ttl", "1s", "--follow"]
    tidings("publish", "-t", topic, *options, stdin="1\n2\n", TIDINGS_URL=server.url)
    refused = within_test("publish", "--ttl", "0", "x", TIDINGS_URL=server.url)
    assert "The field ttl must be a duration of a second or more." in refused.stderr
    await_expiry(published.stdout.strip())
    until(lambda: listed(server, topic) == [], "all have expired")


def test_a_hub_that_starts_does_not_send_what_has_expired(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    log = f"sqlite:///{tmp_path}/log.db"
    before = serve(TIDINGS_BROKER_URL=log)
    before.publish("a", topic="t")
    last = before.publish("b", topic="t", ttl="1")
    await_expiry(last)
    before.stop()
    hub = serve(TIDINGS_BROKER_URL=log)
    assert listed(hub, "t") == listed(hub, "t", latest=1) == ["a"]
    assert streamed(hub, "t", last_event_id=last) == []
    new = hub.publish("c", topic="t")
    assert listed(hub, "t", last_event_id=last) == ["c"]
    assert [it["last_id"] for it in hub.http.get("/topics").json()["topics"]] == [new]
