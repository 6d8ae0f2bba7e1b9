"""No request hides another one: where its end is a matter of opinion, it is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jwt
import pytest

from support.attack_target import MARK, Target
from support.smuggling_vectors import CHUNKED, CHUNKS, CODINGS, FORM, LENGTHS, request
from support.tokens import KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.server import Server

HIDDEN = request(f"POST /events?data={MARK}".encode())
SHAPES = {
    **{f"length: {name}": [b"Content-Length: " + it + b"\r\n"] for name, it in LENGTHS.items()},
    **{f"coding: {name}": [it + b"\r\n"] for name, it in CODINGS.items()},
    **{
        f"coding and length: {name}": [it + b"\r\nContent-Length: 5\r\n"]
        for name, it in CODINGS.items()
    },
}


@pytest.fixture(name="target", scope="module")
def _target(serve: Callable[..., Server]) -> Iterator[Target]:
    server = serve(TIDINGS_DEMO="0")
    with server.listen(topic="*") as subscriber:
        yield Target(server, subscriber)


def expect_refusal(target: Target, attack: bytes) -> None:
    statuses, said = target.attack(attack + HIDDEN)
    assert statuses in ([400], [501]), said
    assert b"application/problem+json" in said


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("body", [b"hello", b"0\r\n\r\n"], ids=["plain", "chunked"])
def test_a_body_of_doubtful_length_is_refused(target: Target, name: str, body: bytes) -> None:
    expect_refusal(target, request(b"POST /events", FORM, *SHAPES[name]) + body)
    expect_refusal(target, request(b"GET /healthz", *SHAPES[name]) + body)


@pytest.mark.parametrize("name", CHUNKS)
def test_a_doubtful_chunk_is_refused(target: Target, name: str) -> None:
    expect_refusal(target, request(b"POST /events", FORM, CHUNKED, body=CHUNKS[name]))


def test_chunks_of_http_1_0_are_refused(target: Target) -> None:
    attack = request(b"POST /events", FORM, CHUNKED, body=b"0\r\n\r\n")
    expect_refusal(target, attack.replace(b"HTTP/1.1", b"HTTP/1.0"))


# What a proxy may send, each with one meaning.
FINE = {
    "OWS around a length": (FORM + b"Content-Length: \t6 \r\n", b"data=x"),
    "zeros before a length": (FORM + b"Content-Length: 006\r\n", b"data=x"),
    "capitals": (FORM + b"TRANSFER-ENCODING: Chunked\r\n", b"6\r\ndata=x\r\n0\r\n\r\n"),
    "an extension": (FORM + CHUNKED, b'6;a="b";c\r\ndata=x\r\n0;d\r\n\r\n'),
    "zeros before a chunk's size": (FORM + CHUNKED, b"0006\r\ndata=x\r\n000\r\n\r\n"),
    "trailers": (FORM + CHUNKED, b"6\r\ndata=x\r\n0\r\nX: y\r\n\r\n"),
}


@pytest.mark.parametrize("name", FINE)
def test_what_has_one_meaning_is_read_to_its_end_and_no_further(target: Target, name: str) -> None:
    headers, body = FINE[name]
    next_one = request(b"GET /healthz", b"Connection: close\r\n")
    statuses, said = target.attack(
        request(b"POST /events?x", headers) + body + next_one, waits=True
    )
    assert statuses == [200, 200], said
    assert said.endswith(b"\r\n\r\nok\n")


@pytest.mark.parametrize("authority", [MARK, f"{MARK}:80", f"localhost@{MARK}", f"[{MARK}", ""])
def test_a_host_in_the_request_line_is_checked_like_the_header(
    target: Target, authority: str
) -> None:
    target.expect_refusal(request(f"GET http://{authority}/healthz".encode()), 400)


def test_an_absolute_request_line_of_our_own_is_fine(target: Target) -> None:
    close = request(b"GET http://localhost/healthz", b"Connection: close\r\n")
    assert target.attack(close)[0] == [200]


def test_an_answer_is_of_a_version_that_the_hub_speaks(target: Target) -> None:
    asked = request(b"GET /healthz", b"Connection: close\r\n").replace(b"HTTP/1.1", b"HTTP/1.7")
    assert target.attack(asked)[1].startswith(b"HTTP/1.1 200 ")


def test_two_tokens_are_none(serve: Callable[..., Server]) -> None:
    locked = Target(serve(TIDINGS_JWT_KEY=KEY))
    good, other = (
        f"Authorization: Bearer {jwt.encode({'mercure': {'publish': [it]}}, KEY)}\r\n".encode()
        for it in ("*", "x")
    )
    publish = b"POST /events?data=x"
    assert locked.attack(request(publish, good))[0] == [200]
    for pair in ((good, good), (good, other), (other, good), (good, b"Authorization:\r\n")):
        locked.expect_refusal(request(publish, *pair), 401)


def test_nothing_hidden_was_published_or_logged(target: Target) -> None:
    last = target.server.publish("the end")
    while target.subscriber.next().id != last:
        pass
    assert MARK.encode() not in target.subscriber.raw
    assert "Traceback" not in target.server.log
