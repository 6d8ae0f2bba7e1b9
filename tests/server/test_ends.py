"""`end=1`: the last event of a topic, and what its streams are told."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from support.tokens import KEY, token
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from support.server import Server

PATHS = ["/events", "/.well-known/mercure"]
LINES = {"Content-Type": "application/x-ndjson"}
BYE = '{"reason": "ended"}'


def get(server: Server, path: str = "/events", **query: Any) -> httpx.Response:
    """Ask for a stream that ends soon, or for none."""
    return server.http.get(path, params=query)


def end(server: Server, topic: str, data: str = "last", **fields: Any) -> str:
    """Publish the last event of a topic, and await that the worker has read it."""
    id_ = server.publish(data, topic=topic, end="1", **fields)
    until(lambda: get(server, topic=topic).status_code == 204, "it has ended")
    return id_


@pytest.fixture(name="keyed", scope="module")
def _keyed(serve: Callable[..., Server]) -> Server:
    keys = {"TIDINGS_SUBSCRIBER_JWT_KEY": KEY, "TIDINGS_PUBLISHER_JWT_KEY": KEY}
    return serve(TIDINGS_ANONYMOUS="1", **keys)


@pytest.mark.parametrize("path", PATHS)
def test_a_stream_ends_after_the_last_event_of_its_topic(
    server: Server, topic: str, path: str
) -> None:
    with server.listen(path, topic=topic, control="1") as stream:
        server.publish("one", topic=topic)
        last = server.publish("last", topic=topic, end="1")
        found = [(it.type, it.data) for it in stream.rest()][1:]
        assert found == [
            ("message", "one"),
            ("message", "last"),
            ("hub.bye", BYE),
        ]
        assert stream.raw.endswith(b'id: %b\ndata: {"reason": "ended"}\n\n' % last.encode())
    for query in ({}, {"last_event_id": last}, {"last": "0"}, {"since": "2100-01-01"}):
        answer = get(server, path, topic=topic, **query)
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers["Cache-Control"] == "private, no-store"


@pytest.mark.parametrize("path", PATHS)
def test_what_was_asked_for_is_sent_before_the_stream_ends(
    server: Server, topic: str, path: str
) -> None:
    first = server.publish("one", topic=topic)
    server.publish("two", topic=topic)
    last = end(server, topic, "three", id=f"end of {topic}")
    asked = {
        "last=2": ["two", "three"],
        f"last_event_id={first}": ["two", "three"],
        "last_event_id=earliest": ["one", "two", "three"],
        "latest=1": ["three"],
        "since=1h": ["one", "two", "three"],
    }
    for query, expected in asked.items():
        for control in "10":
            answer = server.http.get(f"{path}?topic={topic}&control={control}&{query}")
            assert answer.status_code == 200
            told = [it for it in answer.text.split("\n") if it.startswith("data: ")]
            own = [it.removeprefix("data: ") for it in told if not it.startswith("data: {")]
            assert own == expected
            assert (BYE in answer.text) is (control == "1")
            if control == "0":
                assert answer.text.endswith("\n")
                assert answer.text.split("\n")[-2].startswith("retry: ")
    assert get(server, path, topic=topic, last_event_id=last).status_code == 204
    assert get(server, path, topic=topic, last_event_id=last, latest="1").status_code == 204


def test_an_unknown_cursor_is_told_before_the_end(server: Server, topic: str) -> None:
    last = end(server, topic)
    answer = get(server, topic=topic, last_event_id="lost")
    assert '"reason": "unknown"' in answer.text
    assert '"reason": "ended"' in answer.text
    assert last in answer.text
    assert get(server, topic=topic, last_event_id="lost", control="0").status_code == 410
    # It would come back with the same cursor again and again.
    assert get(server, PATHS[1], topic=topic, last_event_id="lost").status_code == 204


def test_a_stream_ends_with_the_last_of_its_topics(server: Server, topic: str) -> None:
    a, b, other = f"{topic}/a", f"{topic}/b", f"{topic}/other"
    with server.listen(topic=[a, b]) as stream, server.listen(topic=[a, f"{topic}/{{x}}"]) as all_:
        server.publish("end of a", topic=a, end="1")
        assert stream.take(1) == ["end of a"]
        server.publish("b goes on", topic=b)
        assert stream.take(1) == ["b goes on"]
        server.publish("end of b", topic=[b, other], end="1")
        assert [it.data for it in stream.rest()] == ["end of b", BYE]
        assert all_.take(3) == ["end of a", "b goes on", "end of b"]
        server.publish("new", topic=f"{topic}/new")
        assert all_.take(1) == ["new"]
    assert get(server, topic=[b, a]).status_code == get(server, topic=other).status_code == 204
    with server.listen(topic=[a, f"{topic}/open"]) as stream:
        server.publish("goes on", topic=f"{topic}/open")
        assert stream.take(1) == ["goes on"]


def test_an_event_of_an_ended_topic_is_refused(server: Server, topic: str) -> None:
    post = server.http.post
    end = {"topic": topic, "data": "last", "id": f"end of {topic}", "end": True}
    ids = {post("/events", json=end).text for _ in range(2)}
    ids.add(post("/events", data={**end, "end": "1"}).text)
    ids.add(post(f"/events?topic={topic}&id=end+of+{topic}&end=1&raw=1", content="last").text)
    assert ids == {f"end of {topic}\n"}
    answer = post("/events", data={"topic": [f"{topic}/x", topic], "data": "late"})
    problem = answer.json()
    assert (answer.status_code, problem["reason"]) == (409, "ended")
    assert problem["detail"] == "The event names a topic that has ended."
    assert post("/events", json={**end, "data": "other"}).json()["detail"].startswith("The id")
    with server.listen(topic=topic, last_event_id="earliest") as stream:
        assert stream.take(1) == ["last"]
        assert stream.next().data == BYE


def test_an_array_is_refused_and_a_pipe_stops_at_the_line(server: Server, topic: str) -> None:
    end, late = {"topic": topic, "end": 1}, {"topic": topic, "data": "late"}
    other = {"topic": f"{topic}/other", "data": "x"}
    answer = server.http.post("/events", json=[other, end, late])
    assert (answer.status_code, answer.json()["reason"]) == (409, "ended")
    body = "".join(f"{json.dumps(it)}\n" for it in (other, end, other, late, other))
    answer = server.http.post("/events", content=body, headers=LINES)
    problem = answer.json()
    assert (answer.status_code, problem["reason"], problem["line"]) == (409, "ended", 4)
    assert problem["published"] == 3
    with server.listen(topic=[f"{topic}/other", topic], last="9") as stream:
        assert stream.take(3) == ["x", "", "x"]


def test_an_end_in_the_url_is_for_one_event(server: Server, topic: str) -> None:
    answers = [
        server.http.post(f"/events?topic={topic}&end=1", json=[{"data": "1"}, {"data": "2"}]),
        server.http.post(f"/events?topic={topic}&end=1", content="{}\n{}\n", headers=LINES),
    ]
    assert {it.status_code for it in answers} == {400}
    assert server.http.get("/topics", params={"topic": topic}).json()["topics"] == []
    answer = server.http.post(f"/events?topic={topic}&end=1", content='{"data":"1"}', headers=LINES)
    assert answer.json()["published"] == 1
    until(lambda: get(server, topic=topic).status_code == 204, "it has ended")


def test_an_envelope_says_that_it_is_the_end(server: Server, topic: str) -> None:
    server.publish("first", topic=topic)
    end(server, topic)
    text = get(server, topic=topic, last="2", envelope="1").text
    data = [json.loads(it[6:]) for it in text.split("\n") if '"topics":["' in it]
    assert [(it["data"], it.get("end")) for it in data] == [("first", None), ("last", True)]


def test_ends_that_a_subscriber_may_not_see_do_not_count(keyed: Server, topic: str) -> None:
    def publish(grant: str, **fields: Any) -> int:
        headers = {"Authorization": f"Bearer {token(publish=[grant])}"}
        return keyed.http.post("/events", data=fields, headers=headers).status_code

    alternate = f"/users/{topic}"
    seen, unseen = token(subscribe=[topic]), token(subscribe=["/other"])
    other = token(subscribe=[alternate])
    with (
        keyed.listen(topic=topic) as anonymous,
        keyed.listen(topic=topic, authorization=unseen) as stranger,
        keyed.listen(topic=topic, authorization=seen) as granted,
        keyed.listen(topic=topic, authorization=other) as by_alternate,
    ):
        assert publish("*", topic=[topic, alternate], private="1", data="secret", end="1") == 200
        for stream in (granted, by_alternate):
            assert [it.data for it in stream.rest()][1:] == ["secret", BYE]
        for stream in (anonymous, stranger):
            assert stream.next().type == "hub.open"
        for stranger_again in ({}, {"authorization": unseen}):
            query: dict[str, Any] = {"topic": topic, **stranger_again}
            with keyed.listen(**query) as stream:
                assert stream.next().type == "hub.open"
        for auth in (seen, other):
            assert get(keyed, topic=topic, authorization=auth).status_code == 204
            assert get(keyed, topic=topic, authorization=auth, last="0").status_code == 204
    # Who may publish to the topic learns that it has ended.
    assert publish(topic, topic=topic) == 409
    assert publish("/x", topic=topic) == 403


def test_ended_streams_are_counted_and_logged(server: Server, topic: str) -> None:
    def count() -> float:
        text = server.http.get("/metrics").text
        lines = [it for it in text.split("\n") if 'streams_ended_total{reason="ended"}' in it]
        return sum(float(it.split()[-1]) for it in lines)

    before = count()
    with server.listen(topic=topic) as stream:
        server.publish(topic=topic, end="1")
        stream.rest()
    until(lambda: count() == before + 1, "the end is counted")
    until(lambda: server.left(topic) == 1, "the end is logged")


def test_many_streams_of_a_topic_end_together(server: Server, topic: str) -> None:
    with ExitStack() as stack:
        topics = [[topic, f"{topic}/{number % 2}"] for number in range(40)]
        streams = [stack.enter_context(server.listen(topic=it)) for it in topics]
        for stream in streams:
            assert stream.next().type == "hub.open"
        server.publish("0", topic=f"{topic}/0", end="1")
        server.publish("1", topic=f"{topic}/1", end="1")
        server.publish("last", topic=topic, end="1")
        for number, stream in enumerate(streams):
            found = [it.data for it in stream.rest()]
            assert found == [str(number % 2), "last", BYE]


def test_head_of_an_ended_topic_has_headers_only(server: Server, topic: str) -> None:
    end(server, topic)
    assert server.http.head("/events", params={"topic": topic}).status_code == 200


def test_json_and_the_list_of_topics_say_what_has_ended(server: Server, topic: str) -> None:
    a, b, headers = f"{topic}/a", f"{topic}/b", {"Accept": "application/json"}

    def asked(*topics: str, **query: Any) -> dict[str, Any]:
        params = {"topic": topics, "last_event_id": "earliest", **query}
        found: dict[str, Any] = server.http.get("/events", params=params, headers=headers).json()
        return found

    for name in (a, b):
        server.publish("first", topic=name)
    assert asked(a)["ended"] is False
    server.publish("last", topic=a, end="1")
    first, done = asked(a, limit=1), asked(a)
    assert (first["more"], first["ended"]) == (True, False)
    assert [it.get("end") for it in done["events"]] == [None, True]
    assert (done["more"], done["ended"]) == (False, True)
    after = asked(a, last_event_id=done["last_id"])
    assert (after["events"], after["ended"]) == ([], True)
    assert asked(a, last_event_id=first["last_id"])["ended"] is True
    assert asked(a, latest=1, last_event_id="")["ended"] is True
    assert asked(a, b)["ended"] is asked(f"{topic}/{{x}}")["ended"] is False
    listed = server.http.get("/topics", params={"topic": f"{topic}/{{x}}"}).json()["topics"]
    assert [(it["topic"], it["ended"]) for it in listed] == [(a, True), (b, False)]
