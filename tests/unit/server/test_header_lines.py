"""Header lines that were parsed before mean what gunicorn says, whatever comes with them."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http.message import Request
from gunicorn.http.unreader import IterUnreader

from webapp.server import header_lines
from webapp.server.request_bounds import BoundedRequest

PEER = ("127.0.0.1", 1)
USUAL = b"Host: a\r\nAccept: */*\r\nContent-Type: text/plain"
LINES = [
    b"Host: a",
    b"Host: b",
    b"Content-Type: text/plain",
    b"Content-Length: 0",
    b"Transfer-Encoding: chunked",
    b"X-Custom: 1",
    b"x-custom: 2",
    b"X_Custom: 3",
    b" folded: 4",
    b"Expect: 100-continue",
    b"Expect: other",
    b"X-Forwarded-Proto: https",
    b"X-Forwarded-Ssl: off",
    b"Empty:",
    b"No colon",
    b": no name",
    b"Spaced : 5",
    b"Control: \x01",
    b"Latin: \xe9",
    b"",
]


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(header_lines, "_known", {})


def parsed(kind: type[Request], lines: bytes, peer: Any = PEER, **settings: Any) -> object:
    """Return the headers and the state of a request with these lines, or its refusal."""
    cfg = Config()
    for name, value in settings.items():
        cfg.set(name, value)
    source = IterUnreader([b"GET / HTTP/1.1\r\n" + lines + b"\r\n\r\n"])
    try:
        request: Any = kind(cfg, source, peer)
    except Exception as error:  # noqa: BLE001 - any refusal must be the same
        return type(error), str(error)
    return request.headers, request.scheme, request._expected_100_continue, request.must_close


@pytest.mark.parametrize("peer", [PEER, ("192.0.2.1", 1)])
def test_lines_mean_the_same_beside_all_others(peer: Any) -> None:
    for some in permutations(LINES, 2):
        lines = b"\r\n".join([b"Host: a", *some, b"Accept: */*"])
        expected = parsed(Request, lines, peer)
        for _ in range(2):  # then some lines are known
            assert parsed(BoundedRequest, lines, peer) == expected, lines


def test_a_known_header_is_not_parsed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = parsed(BoundedRequest, USUAL)
    monkeypatch.setattr(Request, "parse_headers", None)
    assert parsed(BoundedRequest, USUAL) == expected
    assert parsed(BoundedRequest, b"\r\n".join(USUAL.split(b"\r\n")[::-1])) != expected  # the order


def test_secrets_and_long_lines_are_not_kept() -> None:
    lines = [b"Authorization: Bearer x", b"Cookie: mercureAuthorization=x", b"Long: " + b"x" * 999]
    for _ in range(2):
        parsed(BoundedRequest, b"\r\n".join([USUAL, *lines]))
    assert header_lines._known.keys() == set(USUAL.split(b"\r\n"))


def test_the_lines_that_are_kept_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(header_lines, "_MAX_LINES", 10)
    for number in range(100):
        parsed(BoundedRequest, b"%b\r\nX-Number: %d" % (USUAL, number))
        assert len(header_lines._known) <= 10


def test_known_lines_count_for_the_limit_of_headers() -> None:
    lines = b"\r\n".join(b"X-%d: 1" % number for number in range(5))
    for limit in (5, 4):
        expected = parsed(Request, lines, limit_request_fields=limit)
        for _ in range(2):
            assert parsed(BoundedRequest, lines, limit_request_fields=limit) == expected


@pytest.mark.parametrize("policy", ["drop", "refuse", "dangerous"])
def test_names_with_underscores_follow_the_setting_each_time(policy: str) -> None:
    lines = b"Host: a\r\nX_Custom: 3\r\nX-Custom: 4"
    for peer in (PEER, ("192.0.2.1", 1)):
        expected = parsed(Request, lines, peer, header_map=policy)
        for _ in range(2):
            assert parsed(BoundedRequest, lines, peer, header_map=policy) == expected
