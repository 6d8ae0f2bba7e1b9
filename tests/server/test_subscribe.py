"""Subscribing: where a stream begins, what it says first, and to whom."""

from __future__ import annotations

import datetime as dt
import json
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from support.waiting import PATIENCE, until
from webapp.core.sse import HEARTBEAT

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.server import Server


def raw_get(server: Server, request: str) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
    client.sendall(request.encode())
    return client


def received(client: socket.socket, ending: bytes) -> bytes:
    data = b""
    while not data.endswith(ending):
        more = client.recv(1 << 16)
        assert more, data
        data += more
    return data


def test_the_first_bytes_are_the_retry_and_the_open_event(server: Server, topic: str) -> None:
    before = time.time() * 1000 - 1
    with server.listen(topic=[topic, "b"]) as stream:
        opening = stream.next()
    assert stream.raw.startswith(b"retry: ")
    assert opening.type == "hub.open"
    assert 2000 <= (opening.retry or 0) <= 3000
    about = json.loads(opening.data)
    assert about["topics"] == sorted([topic, "b"])
    assert about["replay"] == 0
    assert about["heartbeat"] == 15
    assert before <= about["now"] <= time.time() * 1000 + 1
    assert about["server"].startswith("tidings/")
    assert opening.id == stream.headers["Last-Event-ID"]


def test_the_headers_are_those_of_a_stream(server: Server, topic: str) -> None:
    with server.listen(topic=topic) as stream:
        headers = stream.headers
    assert headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert headers["Cache-Control"] == "private, no-store, no-transform"
    assert "Connection" not in headers
    assert headers["X-Accel-Buffering"] == "no"
    assert "Content-Length" not in headers


def test_a_missing_topic_means_the_topic_events(server: Server) -> None:
    with server.listen() as stream:
        server.publish("x")
        assert stream.take(1) == ["x"]
        assert json.loads(server_topics(stream.raw)) == ["events"]


def server_topics(raw: bytes) -> str:
    line = next(line for line in raw.splitlines() if line.startswith(b"data: "))
    return json.dumps(json.loads(line[6:])["topics"])


def test_the_wildcard_sees_every_topic_and_others_only_their_own(
    server: Server, topic: str
) -> None:
    with server.listen(topic="*") as everything, server.listen(match=topic) as own:
        server.publish("a", topic=f"{topic}-other")
        server.publish("b", topic=topic)
        assert everything.take(2) == ["a", "b"]
        assert own.take(1) == ["b"]


def history(server: Server, topic: str, count: int = 5) -> list[str]:
    """Publish some events; the hub has them at hand, which may be after it has answered."""
    with server.listen(topic=topic) as stream:
        ids = [server.publish(str(number), topic=topic) for number in range(count)]
        stream.take(count)
    return ids


CURSORS: dict[str, Callable[[str], dict[str, Any]]] = {
    "header": lambda id_: {"headers": {"Last-Event-ID": id_}},
    "header over query": lambda id_: {
        "headers": {"Last-Event-ID": id_},
        "last_event_id": "earliest",
    },
    "header over last": lambda id_: {"headers": {"Last-Event-ID": id_}, "last": 1},
    "empty header": lambda id_: {"headers": {"Last-Event-ID": ""}, "last_event_id": id_},
    "null header": lambda id_: {"headers": {"Last-Event-ID": "null"}, "last_event_id": id_},
    "Mercure's header": lambda id_: {
        "headers": {"Last-Event-ID": " undefined ", "Mercure-Last-Event-ID": id_}
    },
    "white space": lambda id_: {"last_event_id": f" \t{id_}\t "},
    "the highest": lambda id_: {"last_event_id": ["earliest", id_, "earliest"]},
    "the highest of two names": lambda id_: {"lastEventId": id_, "last_event_id": "earliest"},
    "the only known one": lambda id_: {"last_event_id": ["unknown", "null", id_, "99-99"]},
}


def in_query(name: str) -> Callable[[str], dict[str, Any]]:
    return lambda id_: {name: id_}


for spelling in (
    *("last_event_id", "lastEventID", "lastEventId", "Last-Event-ID", "last-event-id"),
    *("LastEventId", "LASTEVENTID", "evs_last_event_id", "Mercure-Last-Event-ID"),
):
    CURSORS[spelling] = in_query(spelling)


@pytest.mark.parametrize("cursor", CURSORS.values(), ids=CURSORS)
def test_a_subscriber_continues_after_its_cursor(
    server: Server, topic: str, cursor: Callable[[str], dict[str, Any]]
) -> None:
    ids = history(server, topic)
    with server.listen(topic=topic, **cursor(ids[2])) as stream:
        opening = stream.next()
        assert opening.id == ids[2]
        assert json.loads(opening.data)["replay"] == 2
        server.publish("5", topic=topic)
        assert [(m.data, m.id) for m in stream.messages(2)] == [("3", ids[3]), ("4", ids[4])]
        assert stream.take(1) == ["5"]
        assert b"hub.reset" not in stream.raw


@pytest.mark.parametrize("none", ["", " ", "null", "undefined", " null\t"], ids=repr)
def test_a_variable_that_is_not_set_is_no_cursor(server: Server, topic: str, none: str) -> None:
    ids = history(server, topic)
    with server.listen(topic=topic, last_event_id=none) as stream:
        assert stream.next().id == ids[-1]
    with server.listen(topic=topic, last_event_id=none, last=2) as stream:
        assert stream.take(2) == ["3", "4"]
        assert b"hub.reset" not in stream.raw


@pytest.mark.parametrize(
    ("cursors", "status"),
    [(["x"] * 8, 200), (["x"] * 9, 400), (["x" * 129], 400), (["a\nb"], 400), (["x", "\0"], 400)],
    ids=["8", "9", "long", "line feed", "second"],
)
def test_a_query_has_eight_short_cursors_at_most(
    server: Server, cursors: list[str], status: int
) -> None:
    with server.http.stream("GET", "/events", params={"last_event_id": cursors}) as answer:
        assert answer.status_code == status


def test_of_unknown_cursors_the_stream_begins_at_the_lowest_position(
    server: Server, topic: str
) -> None:
    history(server, topic)
    with server.listen(topic=topic, last_event_id=["unknown", "1-0"]) as stream:
        stream.next()
        assert json.loads(stream.next().data) == {"reason": "aged"}
        assert stream.take(5) == list("01234")


def test_a_subscriber_continues_after_a_publishers_own_id(server: Server, topic: str) -> None:
    for number in range(4):
        server.publish(str(number), topic=topic, id=f"{topic}-{number}")
    with server.listen(topic=topic, last_event_id=f"{topic}-1") as stream:
        assert stream.take(2) == ["2", "3"]


def test_earliest_begins_with_all_that_is_kept(server: Server, topic: str) -> None:
    history(server, topic)
    with server.listen(topic=topic, last_event_id="earliest") as stream:
        assert stream.take(5) == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("last", "expected"), [(1, ["4"]), (3, ["2", "3", "4"]), (99, list("01234"))]
)
def test_last_begins_with_the_newest_matching_events(
    server: Server, topic: str, last: int, expected: list[str]
) -> None:
    history(server, topic)
    history(server, f"{topic}-other", 300)
    with server.listen(topic=topic, last=last) as stream:
        server.publish("live", topic=topic)
        assert stream.take(len(expected) + 1) == [*expected, "live"]


def test_last_0_begins_at_the_head(server: Server, topic: str) -> None:
    history(server, topic)
    with server.listen(topic=topic, last=0) as stream:
        server.publish("live", topic=topic)
        assert stream.take(1) == ["live"]


@pytest.mark.parametrize("path", ["/events", "/.well-known/mercure"])
def test_an_envelope_says_what_the_event_is_and_holds_its_data(
    server: Server, topic: str, path: str
) -> None:
    fields: dict[str, Any] = {"type": "news", "id": f"{topic}-{path}", "retry": 2500}
    data = 'a\r\n"é\u2028'
    topics = [topic, f"{topic}-alternate"]
    before = server.publish("before", topic=topic)
    with (
        server.listen(path, topic=topics[1], envelope=1, control=1) as live,
        server.listen(path, topic=topics[1], control=1) as plain,
    ):
        assert plain.next().type == live.next().type == "hub.open"
        server.publish(data, topic=topics, **fields)
        [message], [other] = live.messages(1), plain.messages(1)
    with server.listen(path, topic=topics[1], envelope=1, last_event_id=before) as replayed:
        assert replayed.messages(1) == [message]
    with server.listen(path, topic=topics[1], envelope=1, last=1) as last:
        assert last.messages(1) == [message]
    found = json.loads(message.data)
    moment = found.pop("time")
    assert abs(time.time() - moment / 1000) < PATIENCE
    about = {"topic": topic, "topics": topics, "type": "news", "private": False}
    assert found == {"id": fields["id"], **about, "data": data}
    assert message._replace(data="") == other._replace(data="")
    assert other.data == 'a\n"é\u2028'


@pytest.mark.parametrize("value", ["", "2", "true", "01", "1 "])
def test_another_envelope_is_refused_with_the_remedy(server: Server, value: str) -> None:
    answer = server.http.get("/events", params={"envelope": value})
    assert answer.status_code == 400
    assert "envelope=1" in answer.json()["remedy"]


def test_envelope_0_is_none(server: Server, topic: str) -> None:
    with server.listen(topic=topic, envelope=0) as stream:
        server.publish("x", topic=topic)
        assert stream.take(1) == ["x"]


def iso(milliseconds: int) -> str:
    return dt.datetime.fromtimestamp(milliseconds / 1000, dt.UTC).isoformat()


SINCE: list[Callable[[int], str]] = [
    lambda ms: str(ms / 1000),
    iso,
    lambda ms: iso(ms).replace("+00:00", "Z"),
    lambda ms: iso(ms + 7_200_000).replace("+00:00", "+02:00"),
]


@pytest.mark.parametrize("since", SINCE, ids=["unix", "iso", "zulu", "zone"])
def test_since_begins_at_a_time(server: Server, topic: str, since: Callable[[int], str]) -> None:
    before, after = history(server, topic, 2)
    while int(after.split("-")[0]) == int(before.split("-")[0]):
        before, after = history(server, topic, 2)
    moment = int(after.split("-")[0])
    with server.listen(topic=topic, since=since(moment)) as stream:
        assert stream.take(1) == ["1"]
        assert stream.ids[-1] == after


def test_since_may_be_an_age(server: Server, topic: str) -> None:
    history(server, topic)
    with server.listen(topic=topic, since="15m") as stream:
        assert stream.take(5) == list("01234")
    with server.listen(topic=topic, since="0s") as stream:
        server.publish("live", topic=topic)
        assert stream.take(1) == ["live"]


def test_a_heartbeat_is_one_line_and_comes_when_nothing_else_does(
    serve: Callable[..., Server], topic: str
) -> None:
    server = serve(TIDINGS_HEARTBEAT="0.1")
    with server.listen(topic=topic) as stream:
        stream.next()
        assert stream.response.read1(1 << 16) == HEARTBEAT
        assert stream.response.read1(1 << 16) == HEARTBEAT


def test_a_stream_ends_at_its_maximal_age_with_a_goodbye(
    serve: Callable[..., Server], topic: str
) -> None:
    server = serve(TIDINGS_MAX_AGE="1")
    position = server.publish("x", topic=topic)  # the stream may be over before another one
    began = time.monotonic()
    with server.listen(topic=topic, last_event_id="earliest") as stream:
        messages = stream.rest()
    assert 0.7 < time.monotonic() - began < PATIENCE
    assert [m.type for m in messages] == ["hub.open", "message", "hub.bye"]
    assert json.loads(messages[-1].data) == {"reason": "max_age"}
    assert messages[-1].id == position
    until(lambda: server.ended("max_age") == 1, "the reason is counted")


def test_head_answers_the_headers_and_registers_nobody(serve: Callable[..., Server]) -> None:
    server = serve(TIDINGS_MAX_SUBSCRIBERS="1")
    for _ in range(3):
        answer = server.http.head("/events")
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    with server.listen() as stream:
        assert stream.next().type == "hub.open"


def test_a_full_house_tells_an_eventsource_to_come_back_and_others_503(
    serve: Callable[..., Server],
) -> None:
    server = serve(TIDINGS_MAX_SUBSCRIBERS="1")
    with server.listen() as inside:
        with server.listen(headers={"Accept": "text/event-stream"}) as stream:
            [bye] = stream.rest()
            assert (bye.type, bye.id) == ("hub.bye", "")
            assert bye.retry
        answer = server.http.get("/events")
        assert answer.status_code == 503
        assert answer.headers["Retry-After"]
        assert answer.json()["remedy"]
        assert server.http.get("/healthz").status_code == 200
        server.publish("undisturbed")
        assert inside.take(1) == ["undisturbed"]
    until(lambda: server.ended("client_left") == 1, "the one inside left")
    with server.listen() as stream:
        assert stream.next().type == "hub.open"


def test_http_1_0_gets_a_stream_without_chunks(server: Server, topic: str) -> None:
    with raw_get(server, f"GET /events?topic={topic} HTTP/1.0\r\n\r\n") as client:
        head, _, body = received(client, b"}\n\n").partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.0 200")
        assert b"chunked" not in head.lower()
        assert body.startswith(b"retry: ")
        id_ = server.publish("x", topic=topic)
        assert received(client, b"x\n\n") == f"id: {id_}\ndata: x\n\n".encode()


def test_a_body_on_the_get_is_read_first(server: Server, topic: str) -> None:
    request = (
        f"GET /events?topic={topic} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc"
    )
    with raw_get(server, request) as client:
        assert b"hub.open" in received(client, b"}\n\n\r\n")
        server.publish("x", topic=topic)
        assert b"data: x\n" in received(client, b"x\n\n\r\n")


@pytest.fixture(name="cors", scope="module")
def _cors(serve: Callable[..., Server]) -> Server:
    return serve(TIDINGS_CORS_ORIGINS="https://page.example,null")


@pytest.mark.parametrize("origin", ["https://page.example", "null"])
def test_an_allowed_origin_may_listen(cors: Server, origin: str) -> None:
    with cors.listen(headers={"Origin": origin}) as stream:
        assert stream.headers["Access-Control-Allow-Origin"] == origin
        # Any site has a page of the origin null: it reads nothing with a visitor's cookies.
        allowed = stream.headers.get("Access-Control-Allow-Credentials")
        assert allowed == (None if origin == "null" else "true")
        assert "Origin" in stream.headers.get_all("Vary", [])


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "https://page.example.evil", "http://page.example"]
)
def test_another_origin_is_not_reflected(cors: Server, origin: str) -> None:
    with cors.listen(headers={"Origin": origin}) as stream:
        assert "Access-Control-Allow-Origin" not in stream.headers


def test_a_refusal_can_be_read_by_an_allowed_origin(cors: Server) -> None:
    answer = cors.http.get("/events?last=x", headers={"Origin": "null"})
    assert answer.status_code == 400
    assert answer.headers["Access-Control-Allow-Origin"] == "null"


@pytest.mark.parametrize("name", ["last-event-id", "authorization", "content-type"])
def test_a_preflight_allows_the_headers_that_clients_send(cors: Server, name: str) -> None:
    asked = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": name}
    answer = cors.http.options("/events", headers={"Origin": "https://page.example", **asked})
    assert answer.status_code == 200
    assert name in answer.headers["Access-Control-Allow-Headers"].lower()


def test_health_and_readiness(server: Server) -> None:
    assert server.http.get("/healthz").text == "ok\n"
    assert server.http.get("/readyz").text == "ready\n"


def test_a_page_whose_browser_hides_its_events_is_logged(server: Server, topic: str) -> None:
    origin = {"Origin": "https://unreadable.example"}
    with server.listen(topic=topic, headers=origin) as stream:
        stream.next()
        sentence = "Pages of the origin 'https://unreadable.example' cannot read"
        until(lambda: sentence in server.log, "it is logged")
