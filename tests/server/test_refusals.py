"""Bad input: each attack is refused in words, and reaches no subscriber, log or traceback."""

from __future__ import annotations

import json
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import jwt
import pytest

from support.attack_target import MARK, Target
from support.tokens import KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.server import Server

FORM, JSON = "application/x-www-form-urlencoded", "application/json"
TEXT, LINES = "text/plain", "application/x-ndjson"
HOST = "Host: localhost"
SMUGGLED = f"POST /events?data={MARK} HTTP/1.1\r\n{HOST}\r\n\r\n"
PUBLISH, HUGE = "POST /events HTTP/1.1", "Content-Length: 99999999"
CHUNKED = "Transfer-Encoding: chunked"
LIMITS = {"TIDINGS_MAX_EVENT_BYTES": "64K", "TIDINGS_MAX_BODY_BYTES": "256K"}
TIMEOUTS = {"TIDINGS_HEADER_TIMEOUT": "0.8", "TIDINGS_BODY_TIMEOUT": "2"}
Attacks = dict[str, tuple[int, bytes]]


def head(line: str, *headers: str) -> bytes:
    return "\r\n".join([line, HOST, *headers, "", ""]).encode("latin-1")


def get(path: str, *headers: str) -> bytes:
    return head(f"GET {path} HTTP/1.1", *headers)


def post(kind: str, body: str, *headers: str, to: str = "/events") -> bytes:
    content = body.encode(errors="surrogateescape")  # "\udcff" is sent as the byte FF
    framing = (f"Content-Type: {kind}", f"Content-Length: {len(content)}")
    return head(f"POST {to} HTTP/1.1", *framing, *headers) + content


def chunked(kind: str, body: str) -> bytes:
    return head(PUBLISH, f"Content-Type: {kind}", CHUNKED) + body.encode()


def form(**fields: Any) -> bytes:
    return post(FORM, urlencode({"data": MARK, **fields}, doseq=True))


def in_json(**members: Any) -> bytes:
    return post(JSON, json.dumps({"data": MARK, **members}))


def in_query(**fields: Any) -> bytes:
    return post(TEXT, MARK, to=f"/events?{urlencode(fields)}")


def part(headers: str, end: str = "\r\n--b--\r\n", kind: str = "; boundary=b") -> bytes:
    return post(f"multipart/form-data{kind}", f"--b\r\n{headers}\r\n\r\n{MARK}{end}")


@pytest.fixture(name="target", scope="module")
def _target(serve: Callable[..., Server]) -> Iterator[Target]:
    server = serve(TIDINGS_DEMO="0", **LIMITS)
    with server.listen(topic="*") as subscriber:
        yield Target(server, subscriber)


@pytest.fixture(name="hasty", scope="module")
def _hasty(serve: Callable[..., Server]) -> Iterator[Target]:
    """One that does not wait for long; who is attacked otherwise must not meet its time-outs."""
    server = serve(TIDINGS_DEMO="0", TIDINGS_HEARTBEAT="0.01", **LIMITS, **TIMEOUTS)
    with server.listen(topic="*") as subscriber:
        yield Target(server, subscriber)


@pytest.fixture(name="locked", scope="module")
def _locked(serve: Callable[..., Server]) -> Target:
    return Target(serve("--access-logfile", "-", TIDINGS_JWT_KEY=KEY))


@pytest.mark.parametrize("carrier", [form, in_json, in_query], ids=lambda it: it.__name__)
@pytest.mark.parametrize("field", ["id", "type", "topic"])
@pytest.mark.parametrize("letter", "\r\n\0\x1b\x7f\x85\u200e", ids=ascii)
def test_control_characters_are_refused(
    target: Target, letter: str, field: str, carrier: Callable[..., bytes]
) -> None:
    for text in (f"{MARK}{letter}x", f"{MARK}{letter}", f"{letter}{MARK}"):
        target.expect_refusal(carrier(**{field: text}), 400)


IDS = ("a" * 129, "é", "earliest", "null", "undefined", "#x", "123-4", f"{'1' * 21}-4", " x", "x ")
RETRIES = ("x", "-1", "1e3", "1.5", "9" * 5000, "\u0661", True)
TOPICS = ("", "a" * 1025, [f"t{n}" for n in range(1001)], [f"t{n}" for n in range(10_000)])
VALUES = {"id": IDS, "retry": RETRIES, "type": ("hub.x", "a" * 1025), "topic": TOPICS}
FIELDS: list[tuple[str, Any, Callable[..., bytes]]] = [
    *((name, it, by) for name in VALUES for it in VALUES[name] for by in (form, in_json)),
    *((name, it, in_json) for name in (*VALUES, "private") for it in (1.5, {"a": 1}, [5])),
]


@pytest.mark.parametrize(("name", "value", "carrier"), FIELDS)
def test_what_no_field_of_an_event_may_be_is_refused(
    target: Target, name: str, value: Any, carrier: Callable[..., bytes]
) -> None:
    document = target.expect_refusal(carrier(**{name: value}), 400)
    assert name in document["detail"] + document["remedy"]


NO_EVENTS = ("", "null", "[]", f'"{MARK}"', f'[["{MARK}"]]', f'{{"data":"{MARK}"')
NO_DATA = ("NaN", "-Infinity", "1e999", "9" * 5000, "[" * 90_000, '"\\ud800"', '{"\\udfff":1}')
BAD_EVENTS = (
    f'{{"other":"{MARK}"}}',
    f'[{{"data":"{MARK}"}},{{"data":"{MARK}"}},{{"type":"hub.x"}}]',
)
CHUNKS = ("ff\r\n%", "5\r\n%\r\n", "x\r\n%", "2\r\n%\r\n0\r\n\r\n", "5\r\n%\r\n0\r\n%\r\n\r\n")
NO_FORM = (MARK, "data=mk7zq\udcff", "data=mk7zq%ff", "data=mk7zq%ed%a0%80")
DATA = 'Content-Disposition: form-data; name="data"'
BODIES: Attacks = {
    **{f"JSON {it[:20]}": (400, post(JSON, it)) for it in (*NO_EVENTS, *BAD_EVENTS)},
    **{f"data {it[:20]}": (400, post(JSON, f'{{"data":["{MARK}",{it}]}}')) for it in NO_DATA},
    **{f"chunks {it!r}": (400, chunked(TEXT, it.replace("%", MARK))) for it in CHUNKS},
    **{f"form {it!a}": (400, post(FORM, it)) for it in NO_FORM},
    "2,001 events": (413, post(JSON, f"[{'{},' * 2000}{{}}]")),
    "bad UTF-8 in the query": (400, post(TEXT, MARK, to="/events?topic=%ff")),
    "bad UTF-8 in JSON": (400, post(JSON, f'{{"data":"{MARK}\udcff"}}')),
    "bad UTF-8 in text": (400, post(TEXT, f"{MARK}\udcff")),
    "latin-1": (415, post(f"{TEXT}; charset=latin-1", MARK)),
    "a part in latin-1": (415, part(f"{DATA}\r\nContent-Type: {TEXT}; charset=iso-8859-1")),
    "gzip": (415, post(TEXT, MARK, "Content-Encoding: gzip")),
    "a part broken off": (400, part(DATA, end="")),
    "a part of many parameters": (413, part(DATA + "; a=b" * 60)),
    "a part of long headers": (413, part(f"{DATA}\r\nX: {MARK * 2000}")),
    "a part of many headers": (413, part("a: b\r\n" * 9000 + DATA)),
    "a part whose headers do not end": (
        413,
        post("multipart/form-data; boundary=b", f"--b\r\n{DATA}; x={MARK * 2000}"),
    ),
    "a part without a name": (400, part("Content-Disposition: form-data")),
    "no boundary": (400, part(DATA, kind="")),
    "a file": (415, part(f"{DATA}; filename=f")),
    "no topic": (400, post(FORM, f"data={MARK}", to="/.well-known/mercure")),
    "private, and no key": (403, form(private="on")),
    "nothing at all": (400, head(PUBLISH)),
    **{f"{n} times 5 bytes": (413, post(TEXT, MARK * n)) for n in (20_000, 60_000)},
    "large chunks": (413, chunked(TEXT, f"493e0\r\n{MARK * 60_000}\r\n0\r\n\r\n")),
    "large chunks, and broken": (413, chunked(TEXT, f"493e0\r\n{MARK * 60_000}{MARK}")),
    "a body broken off": (400, post(TEXT, MARK)[:-1]),
}


@pytest.mark.parametrize(("status", "attack"), BODIES.values(), ids=BODIES)
def test_a_body_that_is_no_event_is_refused(target: Target, status: int, attack: bytes) -> None:
    target.expect_refusal(attack, status)


@pytest.mark.parametrize("path", ["/events", "/.well-known/mercure"])
def test_too_many_events_in_an_array_are_refused_with_the_limit_and_what_to_do(
    target: Target, path: str
) -> None:
    events = [{"topic": "t", "data": MARK}] * 2001
    document = target.expect_refusal(post(JSON, json.dumps(events), to=path), 413)
    assert "more than 2000 events" in document["detail"]
    assert "several arrays" in document["remedy"]
    assert "NDJSON, which takes any number" in document["remedy"]


@pytest.mark.parametrize(
    ("name", "near"),
    [("event", "type"), ("Topic", "topic"), ("dta", "data"), ("message", "data"), ("zzz", None)],
)
def test_an_unknown_field_is_named_with_the_one_that_is_near(
    target: Target, name: str, near: str | None
) -> None:
    document = target.expect_refusal(post(JSON, json.dumps({"data": "x", name: 1})), 400)
    assert document["detail"] == f'An event has no field "{name}".'
    assert ("Did you mean" in document["remedy"]) == bool(near)
    assert not near or f'Did you mean "{near}"?' in document["remedy"]


def test_the_name_of_an_unknown_field_is_shown_in_part_and_printable(target: Target) -> None:
    name = "\x1b[2J\x9b\u202e\ud800\n" + "a" * 10_000
    document = target.expect_refusal(post(JSON, json.dumps({name: 1})), 400)
    assert document["detail"].isprintable()
    assert len(document["detail"]) < 100


@pytest.mark.parametrize("body", ['{"data": "x"}', ' [{"data": "x"}]'])
def test_json_that_is_sent_as_a_form_is_refused_with_the_header_to_add(
    target: Target, body: str
) -> None:
    document = target.expect_refusal(post(FORM, body), 400)
    assert "Content-Type: application/json" in document["remedy"]


def test_a_refusal_is_text_that_people_can_read(target: Target) -> None:
    _, said = target.attack(post(FORM, "hello"))
    assert "Send data=…" in said.decode()


def test_no_depth_of_nesting_is_a_bug(target: Target) -> None:
    for depth in range(850, 1000):
        statuses, _ = target.attack(post(JSON, '{"data":' + "[" * depth + "]" * depth + "}"))
        assert statuses in ([200], [400]), depth


BAD_LINES = {
    "broken": (400, '{"data":"mk7zq"'),
    "bad UTF-8": (400, '{"data":"mk7zq\udcff"}'),
    "conflict": (409, '{"data":"mk7zq","id":"taken"}'),
    "a large event": (413, f'{{"data":"{MARK * 20_000}"}}'),
    "a large line": (413, f'{{"data":"{MARK * 60_000}"}}'),
}


@pytest.mark.parametrize("end", [f'\n{{"data":"{MARK}"}}\n', "\n", ""], ids=["more", "LF", "none"])
@pytest.mark.parametrize(("status", "bad"), BAD_LINES.values(), ids=BAD_LINES)
def test_what_came_before_a_bad_line_stays_published_and_is_counted(
    target: Target, topic: str, status: int, bad: str, end: str
) -> None:
    target.attack(post(JSON, '{"data":"x","id":"taken"}'))
    good = json.dumps({"topic": topic, "data": "good"})
    document = target.expect_refusal(post(LINES, f"\n{good}\n\r\n{good}\n{bad}{end}"), status)
    with target.server.listen(topic=topic, last=9) as stream:
        assert document["last_id"] == stream.messages(2)[-1].id
    assert (document["published"], document["line"]) == (2, 5)


def test_an_own_id_with_other_content_is_a_conflict(target: Target, topic: str) -> None:
    event = {"id": f"own-{topic}", "topic": topic, "data": "x"}
    first, again = (target.attack(request) for request in (form(**event), in_json(**event)))
    assert first[0] == again[0] == [200]
    assert first[1].partition(b"\r\n\r\n")[2] == again[1].partition(b"\r\n\r\n")[2]
    for other in ({"data": MARK}, {"type": "y"}, {"retry": "5000"}):
        target.expect_refusal(form(**{**event, **other}), 409)


def test_a_body_may_arrive_slowly_but_must_not_stop(hasty: Target, topic: str) -> None:
    request = post(TEXT, "very slow", to=f"/events?topic={topic}")
    with hasty.connect(request[:-9]) as connection:
        for byte in request[-9:]:
            time.sleep(0.25)  # what is tested: nine are longer than the time-out
            connection.sendall(bytes([byte]))
        connection.shutdown(socket.SHUT_WR)
        assert hasty.answers(connection)[0] == [200]
    hasty.expect_refusal(post(TEXT, MARK)[:-1], 408, waits=True)
    hasty.expect_refusal(chunked(TEXT, f"ff\r\n{MARK}"), 408, waits=True)


def test_a_slow_head_is_hung_up_on_and_holds_nobody_up(hasty: Target) -> None:
    with hasty.connect(f"GET /{MARK} HTTP/1.1\r\n".encode()) as connection:
        assert hasty.server.http.get("/healthz").status_code == 200
        assert connection.recv(1000) == b""


@pytest.mark.parametrize("kind", [TEXT, LINES])
def test_a_body_in_tiny_chunks_is_refused_and_holds_nobody_up(
    target: Target, topic: str, kind: str
) -> None:
    with target.server.listen(topic=topic) as subscriber:
        subscriber.next()
        document = target.expect_refusal(chunked(kind, "1\r\nx\r\n" * 200_000), 400)
        assert document["reason"] == "chunks"
        target.server.publish("x", topic=topic)
        subscriber.take(1)


def test_a_pipe_of_many_short_lines_in_chunks_of_their_own_is_fine(
    target: Target, topic: str
) -> None:
    line = json.dumps({"topic": topic})
    lines = f"{len(line) + 1:x}\r\n{line}\n\r\n" * 3000
    statuses, said = target.attack(chunked(LINES, f"{lines}0\r\n\r\n"))
    assert statuses == [200]
    assert b'"published":3000' in said


@pytest.mark.parametrize("line", ["5;" + "a" * 300, "0" * 300 + "5", "5" + ";a=b" * 2000])
def test_a_chunk_has_a_short_line_before_it(target: Target, line: str) -> None:
    target.expect_refusal(chunked(TEXT, f"{line}\r\nhello\r\n0\r\n\r\n"), 400)


def test_trailers_have_an_end(target: Target) -> None:
    fine, long = f"X: {'x' * 8000}\r\n", f"X: {MARK * 300}\r\n" * 6
    assert target.attack(chunked(TEXT, f"1\r\nx\r\n0\r\n{fine}\r\n"))[0] == [200]
    for end in ("\r\n", ""):
        document = target.expect_refusal(chunked(TEXT, f"1\r\nx\r\n0\r\n{long}{end}"), 413)
        assert document["reason"] == "trailers"


LENGTHS = ("-1", "+5", "5, 5", "9" * 5000, "5\r\nContent-Length: 5", f"5\r\n{CHUNKED}")
HEADERS = (f"X: {MARK}\0", f": {MARK}", f"X : {MARK}", f"X: a\r\n {MARK}", f"X: y\nZ: {MARK}")
STARTS = ("GET / HTTP/9.9", "GET /mk7zq HTTP/1.1\nX: y", "GET /mk7zq", "\x16mk7zq\xff", "mk7zq * *")
HOSTS = (f"{MARK}.example", f"localhost.{MARK}", f"{MARK}@localhost", "")
ENCODED = ("%0d", "%0a", "%00", "%1b", "%7f", "%ff")
MANY = (f"topic={MARK}&" * 101, f"match={MARK}&" * 101, f"{MARK}&" * 1200)
QUERIES = [
    *(f"{name}={MARK}{it}" for name in ("topic", "last_event_id", "lastEventID") for it in ENCODED),
    *(f"{name}={'a' * 129}" for name in ("last_event_id", "lastEventID")),
    *(f"since={it}" for it in ("yesterday", "9999999999999999", "1211111111111")),  # ms
    *("topic=", f"topic={MARK}%c2%85", f"topic={MARK}%e2%80%8e", "last=-1", f"last={MARK}", *MANY),
]
HTTP: Attacks = {
    **{it[:30]: (400, get(f"/events?{it}")) for it in QUERIES},
    "a long cursor": (400, get("/events", f"Last-Event-ID: {MARK}{'a' * 124}")),
    **{f"length {it[:20]!r}": (400, get("/", f"Content-Length: {it}")) for it in LENGTHS},
    **{repr(it): (400, get(f"/{MARK}", it)) for it in (*HEADERS, "Transfer-Encoding: gzip")},
    **{repr(it): (400, head(it)) for it in STARTS},
    **{it: (405, head(f"{it} /events HTTP/1.1")) for it in ("PUT", "PATCH", "TRACE")},
    **{it: (404, get(it)) for it in (f"/{MARK}%0d%0a", f"/{MARK}%ff%00", "/events/")},
    "a long request line": (414, get(f"/events?topic={MARK * 1700}")),
    "a long header": (431, get("/", f"X: {MARK * 3300}")),
    "long headers": (431, get("/", *[f"X: {MARK * 1600}"] * 4)),
    "long headers without an end": (431, get("/", *[f"X: {MARK * 1600}"] * 5)[:-2]),
    "200 headers": (431, get("/", *[f"X-{n}: {MARK}" for n in range(200)])),
    "an unknown coding": (501, get("/", f"Transfer-Encoding: {MARK}")),
    "an expectation": (417, post(TEXT, MARK, f"Expect: {MARK}")),
    "no host": (400, b"GET / HTTP/1.1\r\n\r\n"),
    "two hosts": (400, get("/", f"Host: {MARK}")),
    **{f"host {it}": (400, get("/").replace(b"localhost", it.encode())) for it in HOSTS},
    "a large body on a GET": (413, get("/events", "Content-Length: 5000") + b"mk7zq" * 1000),
}
HINTS = {
    "a long header": "TIDINGS_MAX_HEADER_BYTES, 16384 bytes",
    "an unknown coding": "Transfer-Encoding",
    "an expectation": "100-continue",
}


@pytest.mark.parametrize("name", HTTP)
def test_what_is_no_request_to_a_hub_is_refused(target: Target, name: str) -> None:
    status, attack = HTTP[name]
    document = target.expect_refusal(attack, status)
    assert HINTS.get(name, "") in document["detail"] + document["remedy"]


def test_the_methods_that_are_allowed_are_named(target: Target) -> None:
    allowed = target.server.http.put("/events").headers["Allow"]
    assert set(allowed.split(", ")) == {"DELETE", "GET", "HEAD", "OPTIONS", "POST"}


@pytest.mark.parametrize("path", ["/events", "/healthz", "/openapi.json", "/static/live.js"])
@pytest.mark.parametrize("framing", ["Content-Length: 4096", CHUNKED])
def test_a_gets_body_is_not_awaited_and_no_next_request(
    target: Target, path: str, framing: str
) -> None:
    with target.connect(get(path, framing)) as connection:
        assert connection.recv(12) == b"HTTP/1.1 200"
    statuses, _ = target.attack(get("/healthz", framing) + SMUGGLED.encode())
    assert statuses == [200]


def test_a_stranger_is_refused_before_the_body_of_a_get(locked: Target) -> None:
    locked.expect_refusal(get("/console/state", HUGE), 401, waits=True)
    bad = f"Authorization: Bearer {MARK}"
    locked.expect_refusal(get("/events", "Content-Length: 4096", bad), 401, waits=True)


UNREAD: Attacks = {
    "compressed": (415, post(TEXT, SMUGGLED, "Content-Encoding: gzip")),
    "nowhere": (404, post(TEXT, SMUGGLED, to="/nowhere")),
    "a bad chunk": (400, chunked(TEXT, f"z\r\n{SMUGGLED}")),
    "a bad line": (400, post(LINES, f"{MARK}\n{SMUGGLED}")),
    "a bad line in a chunk": (400, chunked(LINES, f"ff\r\n{MARK}\n{SMUGGLED}")),
    "too large, and it drips on": (413, head(PUBLISH, HUGE) + SMUGGLED.encode()),
}


@pytest.mark.parametrize("name", UNREAD)
def test_the_rest_of_a_refused_body_is_never_taken_for_a_request(hasty: Target, name: str) -> None:
    status, attack = UNREAD[name]
    with hasty.connect(attack.removesuffix(SMUGGLED.encode())) as connection:
        assert hasty.answers(connection, end=b"}\n")[0] == [status]
        with suppress(OSError):  # hung up on: good
            for _ in range(225 if "drips" in name else 1):
                connection.sendall(SMUGGLED.encode())
                time.sleep(0.004)  # the pace is the attack: past the head's deadline
            connection.shutdown(socket.SHUT_WR)
        assert hasty.answers(connection) == ([], b"")


def test_no_expiry_of_a_token_is_a_bug(locked: Target) -> None:
    for expiry in ("4000000000", 10**400, "x", [1], 1e308):
        token = jwt.encode({"mercure": {"subscribe": ["*"]}, "exp": expiry}, KEY)
        with locked.connect(get("/events", f"Authorization: Bearer {token}")) as connection:
            assert connection.recv(12) in {b"HTTP/1.1 200", b"HTTP/1.1 401"}, expiry


def test_a_long_token_fits_and_how_long_is_a_setting(
    locked: Target, serve: Callable[..., Server]
) -> None:
    token = jwt.encode({"mercure": {"publish": ["*"], "payload": "x" * 10_000}}, KEY)
    publish = post(TEXT, "x", f"Authorization: Bearer {token}")
    assert locked.attack(publish)[0] == [200]
    strict = Target(serve(TIDINGS_JWT_KEY=KEY, TIDINGS_MAX_HEADER_BYTES="8K"))
    assert "8192 bytes" in strict.expect_refusal(publish, 431)["detail"]


def test_strangers_are_refused_before_their_body_is_read(locked: Target) -> None:
    beginning = head(PUBLISH, "Content-Length: 99", f"Content-Type: {JSON}")
    locked.expect_refusal(beginning, 401, waits=True)


def test_a_path_writes_one_line_of_the_access_log(locked: Target) -> None:
    locked.expect_refusal(get("/mk7zr%0d%0aFAKE%1b%c2%85"), 404)
    [line] = [line for line in locked.server.log.splitlines() if "mk7zr" in line]
    assert "FAKE" in line
    assert line.isprintable()


def test_nothing_of_it_reached_a_subscriber_a_log_line_or_a_traceback(
    target: Target, hasty: Target
) -> None:
    for each in (target, hasty):
        last = each.server.publish("the end")
        while each.subscriber.next().id != last:
            pass
        assert MARK.encode() not in each.subscriber.raw
        assert MARK not in each.server.log
        assert "Traceback" not in each.server.log
        assert {status for status in each.seen if status >= 500} <= {501}
