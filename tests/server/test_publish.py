"""Publishing: every kind of body, any text, and the answer."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import threading
from typing import TYPE_CHECKING, Any

import pytest
from httpx_sse import connect_sse

from support.programs import need
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx

    from support.server import Server

TEXTS = {
    "empty": "",
    "one line": "hello",
    "a megabyte": "0123456789abcdef" * (1 << 16),
    "LF": "a\nb",
    "CR": "a\rb",
    "CRLF": "a\r\nb",
    "line ends at both ends": "\n\r\na\r",
    "line separator": "a\u2028b\u2029c\x85d",
    "NUL": "a\0b",
    "other controls": "\x01\x0b\x0c\x1c\x1d\x1e\x7f",
    "emoji": "👩‍👩‍👧 🏴󠁧󠁢󠁷󠁬󠁳󠁿 é",
    "a lone BOM": "\ufeff",
    "spaces": "  two before, two after  ",
    "fields": "data: x\nid: 1\nevent: y\n: comment",
    "JSON": '{"a": [1, null, "\\n"]}',
}


def as_read(text: str) -> str:
    return re.sub(r"\r\n|\r", "\n", text)


@pytest.mark.parametrize("body", ["form", "multipart", "json", "raw", "ndjson"])
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_subscriber_gets_exactly_what_was_sent(
    server: Server, topic: str, text: str, body: str
) -> None:
    send: dict[str, Callable[[], httpx.Response]] = {
        "form": lambda: server.http.post("/events", data={"topic": topic, "data": text}),
        "multipart": lambda: server.http.post(
            "/events", files={"topic": (None, topic), "data": (None, text.encode())}
        ),
        "json": lambda: server.http.post("/events", json={"topic": topic, "data": text}),
        "raw": lambda: server.http.post(
            "/events", params={"topic": topic}, content=text, headers={"Content-Type": "text/plain"}
        ),
        "ndjson": lambda: server.http.post(
            "/events",
            content=json.dumps({"topic": topic, "data": text}) + "\n",
            headers={"Content-Type": "application/x-ndjson"},
        ),
    }
    with server.listen(topic=topic) as stream:
        answer = send[body]()
        assert answer.status_code == 200, answer.text
        assert stream.take(1) == [as_read(text)]


def test_httpx_sse_reads_a_live_stream_without_empty_messages(
    serve: Callable[..., Server], topic: str
) -> None:
    server = serve(TIDINGS_HEARTBEAT="0.05")
    with connect_sse(server.http, "GET", "/events", params={"topic": topic}) as source:
        events = source.iter_sse()
        assert next(events).event == "hub.open"
        server.publish("one", topic=topic)
        assert next(events).data == "one"
        with server.listen(topic=topic) as other:
            other.next()
            until(lambda: other.response.read1() == b":\n", "a heartbeat")
        server.publish("two", topic=topic)
        assert next(events).data == "two"


def test_all_fields_reach_the_subscriber(server: Server, topic: str) -> None:
    fields = {"topic": topic, "data": "x", "type": "greeting", "id": f"id-{topic}", "retry": "5000"}
    with server.listen(topic=topic) as stream:
        assert server.http.post("/events", data=fields).text == f"{fields['id']}\n"
        [message] = stream.messages(1)
    assert message == ("x", "greeting", fields["id"], 5000)


def test_fields_come_in_mercures_order(server: Server, topic: str) -> None:
    fields = {"topic": topic, "data": "x", "type": "t", "id": f"id-{topic}", "retry": "5000"}
    with server.listen(topic=topic) as stream:
        server.http.post("/events", json={**fields, "retry": 5000})
        stream.take(1)
    expected = f"event: t\nretry: 5000\nid: id-{topic}\ndata: x\n\n"
    assert stream.raw.decode().endswith(expected)


@pytest.mark.parametrize(("asked", "given"), [(1, 100), (100, 100), (10**15, 3_600_000)])
def test_retry_is_clamped_to_sane_bounds(
    server: Server, topic: str, asked: int, given: int
) -> None:
    with server.listen(topic=topic) as stream:
        server.publish("x", topic=topic, retry=asked)
        assert stream.messages(1)[0].retry == given


@pytest.mark.parametrize(
    ("value", "text"),
    [({"a": [1, "é"]}, '{"a":[1,"é"]}'), (None, "null"), (1.5, "1.5"), (True, "true"), ([], "[]")],
)
def test_json_data_may_be_any_value(server: Server, topic: str, value: Any, text: str) -> None:
    with server.listen(topic=topic) as stream:
        server.http.post("/events", json={"topic": topic, "data": value})
        assert stream.take(1) == [text]


def test_a_json_array_is_published_in_its_order(server: Server, topic: str) -> None:
    with server.listen(topic=topic) as stream:
        answer = server.http.post(
            "/events",
            json=[{"topic": topic, "data": str(n)} for n in range(100)],
            headers={"Accept": "application/json"},
        ).json()
        messages = stream.messages(100)
    assert [m.data for m in messages] == [str(n) for n in range(100)]
    assert answer["ids"] == [m.id for m in messages]
    assert (answer["published"], answer["id"]) == (100, messages[-1].id)


def test_an_event_reaches_subscribers_of_each_of_its_topics_once(
    server: Server, topic: str
) -> None:
    a, b = f"{topic}/a", f"{topic}/b"
    with (
        server.listen(topic=a) as one,
        server.listen(topic=b) as two,
        server.listen(topic=[a, b]) as both,
        server.listen(topic=f"{topic}/{{x}}") as template,
    ):
        server.http.post("/events", data={"topic": [a, b], "data": "x"})
        server.http.post("/events", data={"topic": b, "data": "y"})
        server.http.post("/events", data={"topic": a, "data": "z"})
        assert one.take(2) == ["x", "z"]
        assert two.take(2) == ["x", "y"]
        assert both.take(3) == template.take(3) == ["x", "y", "z"]


def test_the_answer_is_the_id_as_text_and_json_where_asked(server: Server, topic: str) -> None:
    plain = server.http.post("/events", data={"topic": topic, "data": "x"})
    assert plain.headers["Content-Type"].startswith("text/plain")
    assert re.fullmatch(r"\d+-\d+\n", plain.text)
    asked = server.http.post(
        "/events", data={"topic": topic}, headers={"Accept": "application/json"}
    )
    assert re.fullmatch(r"\d+-\d+", asked.json()["id"])


def test_publishing_an_own_id_again_appends_nothing(server: Server, topic: str) -> None:
    with server.listen(topic=topic) as stream:
        assert server.publish("a", topic=topic, id=f"own-{topic}") == f"own-{topic}"
        assert server.publish("a", topic=topic, id=f"own-{topic}") == f"own-{topic}"
        server.publish("b", topic=topic)
        assert stream.take(2) == ["a", "b"]


def test_mercures_path_is_strict_about_its_topic(server: Server, topic: str) -> None:
    path = "/.well-known/mercure"
    assert server.http.post(path, data={"data": "x"}).status_code == 400
    assert server.http.get(path).status_code == 400
    with server.listen(path, topic=topic) as stream:
        assert server.http.post(path, data={"topic": topic, "data": "x"}).status_code == 200
        assert stream.take(1) == ["x"]


@pytest.fixture(name="pipe")
def _pipe(server: Server) -> Iterator[subprocess.Popen[str]]:
    command = [need("curl"), "-sS", "-T-", "-X", "POST", f"{server.url}/events"]
    command += ["-H", "Content-Type: application/x-ndjson"]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    with process:
        yield process
        process.kill()


def write(pipe: subprocess.Popen[str], **event: str) -> None:
    assert pipe.stdin is not None
    print(json.dumps(event), file=pipe.stdin, flush=True)


def test_a_pipe_publishes_each_line_as_it_is_written(
    server: Server, topic: str, pipe: subprocess.Popen[str]
) -> None:
    with server.listen(topic=topic) as stream:
        for number in range(20):
            write(pipe, topic=topic, data=str(number))
            assert stream.take(1) == [str(number)]  # before the next line is written
    answer = json.loads(pipe.communicate()[0])
    assert answer == {"published": 20, "last_id": stream.ids[-1]}


def test_a_pipe_may_be_quiet_for_longer_than_a_body_may(
    serve: Callable[..., Server], topic: str
) -> None:
    server = serve(TIDINGS_BODY_TIMEOUT="0.2")
    with (
        socket.create_connection(("127.0.0.1", server.port)) as pipe,
        server.listen(topic=topic) as stream,
    ):
        line = json.dumps({"topic": topic, "data": "x"}) + "\n"
        head = "POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
        pipe.sendall(f"{head}Content-Length: {2 * len(line)}\r\n\r\n{line}".encode())
        assert stream.take(1) == ["x"]
        threading.Event().wait(0.5)  # the quiet itself is what is tested
        pipe.sendall(line.encode())
        assert stream.take(1) == ["x"]
        with pipe.makefile("rb") as answer:
            assert any(b'"published":2' in part for part in answer)


def test_a_pipes_last_line_needs_no_end_and_blank_lines_are_nothing(
    server: Server, topic: str
) -> None:
    line = json.dumps({"topic": topic, "data": "x"})
    answer = server.http.post(
        "/events",
        content=f"\n{line}\n\r\n  \n{line}".encode(),
        headers={"Content-Type": "application/x-ndjson"},
    )
    assert answer.json()["published"] == 2


def test_a_large_pipe_arrives_whole_and_in_order(server: Server, topic: str) -> None:
    count = 5_000  # fewer than the log keeps: the subscriber reads when all is published

    def body() -> Iterator[bytes]:
        for number in range(count):
            yield json.dumps({"topic": topic, "data": str(number)}).encode() + b"\n"

    with server.listen(topic=topic) as stream:
        answer = server.http.post(
            "/events", content=body(), headers={"Content-Type": "application/x-ndjson"}
        )
        assert answer.json()["published"] == count
        assert stream.take(count) == [str(number) for number in range(count)]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        ("x" * 1_000_000, 200),
        ("\n" * 299_000, 200),
        ("\r\n" * 250_000, 200),
        ("\n" * 300_000, 413),  # each takes 7 bytes in a stream
        ("\r" * 300_000, 413),
        ("\x01" * 350_000, 413),  # each takes 6 bytes in the JSON of an envelope
    ],
)
def test_data_are_bounded_by_what_they_take_in_a_stream(
    server: Server, data: str, status: int
) -> None:
    answer = server.http.post("/events?topic=lines", content=data)
    assert answer.status_code == status
    if status == 413:
        assert answer.json()["reason"] == "event_bytes"


def test_an_offer_of_http_2_changes_nothing(server: Server, topic: str) -> None:
    """Java's client makes one with each request, also with a body in chunks."""
    offer = {
        "Connection": "Upgrade, HTTP2-Settings",
        "Upgrade": "h2c",
        "HTTP2-Settings": "AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
        "Content-Type": "text/plain",
    }
    with server.listen(topic=topic) as stream:
        for _ in range(2):  # the second one over the same connection
            body = iter([b"x" * 1000] * 300)
            answer = server.http.post(
                "/events", params={"topic": topic}, headers=offer, content=body
            )
            assert answer.status_code == 200
        assert stream.take(2) == ["x" * 300_000] * 2


def test_an_own_id_is_unique_in_its_canonical_topic(server: Server, topic: str) -> None:
    own = f"{topic} own"
    for name in ("a", "b", "a"):
        server.publish("same", topic=[f"{topic}/{name}", f"{topic}/all"], id=own)
    for name, status in (("a", 409), ("b", 409), ("all", 200)):
        form = {"topic": f"{topic}/{name}", "data": "other", "id": own}
        assert server.http.post("/events", data=form).status_code == status
    with server.listen(topic=f"{topic}/b", last_event_id=own) as stream:
        server.publish("next", topic=f"{topic}/b")
        assert stream.take(1) == ["next"]
    with server.listen(topic=f"{topic}/all", last_event_id=own) as stream:  # after the oldest
        assert stream.take(2) == ["same", "other"]
