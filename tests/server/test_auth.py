"""Tokens: who may publish, who may read what is private, and the refusals."""

from __future__ import annotations

import json
import time
from math import inf
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import httpx
import jwt
import pytest

from support.processes import system
from support.tokens import KEY, authorization
from support.waiting import PATIENCE, given_time, until
from webapp.core.escaping import escape

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.server import Server


@pytest.fixture(name="closed", scope="module")
def _closed(serve: Callable[..., Server]) -> Server:
    return serve(TIDINGS_JWT_KEY=KEY, TIDINGS_PUBLISH_ORIGINS="https://page.example")


def encode(key: str = KEY, algorithm: str = "HS256", **claims: Any) -> str:
    return jwt.encode(claims, key, algorithm)


ALL = {"publish": ["*"], "subscribe": ["*"]}
VALID = encode(mercure=ALL)
STALE = encode(mercure=ALL, exp=1)
COOKIE = "mercureAuthorization"
LONG = "another-key-that-is-just-as-long-as-ours-and-longer-for-all-the-hashes"


@pytest.fixture(name="long_key", scope="module")
def _long_key(serve: Callable[..., Server]) -> Server:
    return serve(TIDINGS_JWT_KEY=LONG)


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_publisher_with_a_grant_publishes(long_key: Server, algorithm: str) -> None:
    token = encode(LONG, algorithm, mercure=ALL)
    assert long_key.http.post("/events", data={"data": "x"}, headers=authorization(token)).text


def none_algorithm() -> str:
    return jwt.encode({"mercure": ALL}, "", "none")


def by_hand(claim: str) -> str:
    """Return a token with a claim that is JSON, whatever a library would make of it."""
    head, said = '{"alg": "HS256"}', f'{{"mercure": {json.dumps(ALL)}, {claim}}}'
    text = ".".join(jwt.utils.base64url_encode(it.encode()).decode() for it in (head, said))
    signature = jwt.get_algorithm_by_name("HS256").sign(text.encode(), KEY.encode())
    return f"{text}.{jwt.utils.base64url_encode(signature).decode()}"


templates = [f"/{number}/{{id}}" for number in range(101)]
nested: Any = []
for _ in range(33):
    nested = [nested]

REFUSED = {
    "none at all": (dict, 401),
    "not a token": (lambda: authorization("nonsense"), 401),
    "an empty one": (lambda: {"Authorization": "Bearer"}, 401),
    "not a bearer's": (lambda: {"Authorization": "Basic eDp5"}, 401),
    "another key": (lambda: authorization(encode(LONG, mercure=ALL)), 401),
    "no algorithm": (lambda: authorization(none_algorithm()), 401),
    "expired": (lambda: authorization(encode(mercure=ALL, exp=time.time() - 60)), 401),
    "not yet valid": (lambda: authorization(encode(mercure=ALL, nbf=time.time() + 600)), 401),
    "without the claim": (lambda: authorization(encode(sub="me")), 403),
    "a claim of another form": (lambda: authorization(encode(mercure={"publish": "*"})), 401),
    "of a grant that is a list": (lambda: authorization(encode(mercure=["*"])), 401),
    "half a surrogate pair": (lambda: authorization(by_hand('"sub": "ann \\ud83d"')), 401),
    "one in a pattern": (lambda: authorization(encode(mercure={"publish": ["\ud83d"]})), 401),
    "one in the payload": (
        lambda: authorization(encode(mercure=ALL | {"payload": ["\ud83d"]})),
        401,
    ),
    "infinity in the payload": (lambda: authorization(encode(mercure=ALL | {"payload": inf})), 401),
    "a payload that is nested": (
        lambda: authorization(encode(mercure=ALL | {"payload": nested})),
        401,
    ),
    "half a subject": (lambda: authorization(by_hand('"sub": 7.5')), 401),
    "a long subject": (lambda: authorization(encode(mercure=ALL, sub="x" * 1025)), 401),
    "an end that is text": (lambda: authorization(encode(mercure=ALL, exp="4000000000")), 401),
    "a beginning that is infinite": (lambda: authorization(by_hand('"iat": 1e999')), 401),
    "a beginning that is no number": (lambda: authorization(by_hand('"iat": NaN')), 401),
    "a beginning that is true": (lambda: authorization(encode(mercure=ALL, iat=True)), 401),
    "a beginning that is a list": (lambda: authorization(encode(mercure=ALL, iat=[1])), 401),
    "many patterns": (lambda: authorization(encode(mercure={"publish": list("abc") * 334})), 401),
    "many templates": (lambda: authorization(encode(mercure={"publish": templates})), 401),
    "a long pattern": (lambda: authorization(encode(mercure={"subscribe": ["x" * 1025]})), 401),
    "a pattern that is a number": (lambda: authorization(encode(mercure={"subscribe": [7]})), 401),
    "a list that is a number": (lambda: authorization(encode(mercure={"subscribe": 0})), 401),
    "reading only": (lambda: authorization(encode(mercure={"subscribe": ["*"]})), 403),
    "another topic": (lambda: authorization(encode(mercure={"publish": ["a"]})), 403),
    "only one of both topics": (lambda: authorization(encode(mercure={"publish": ["t"]})), 403),
    "nothing": (lambda: authorization(encode(mercure={"publish": []})), 403),
}


@pytest.mark.parametrize(("headers", "status"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("kind", ["form", "pipe"])
def test_a_publisher_without_the_right_token_is_refused(
    closed: Server, headers: Callable[[], dict[str, str]], status: int, kind: str
) -> None:
    sent = headers()
    if kind == "form":
        answer = closed.http.post("/events", data={"topic": ["t", "u"]}, headers=sent)
    else:
        line = '{"topic": ["t", "u"]}\n'
        sent = {**sent, "Content-Type": "application/x-ndjson"}
        answer = closed.http.post("/events", content=line, headers=sent)
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["remedy"]
    error = {401: 'error="invalid_token"', 403: 'error="insufficient_scope"'}[status]
    challenge, scheme = answer.headers["WWW-Authenticate"], sent.get("Authorization", "")
    assert challenge.startswith('Bearer realm="tidings"')
    assert (error in challenge) == scheme.startswith("Bearer")  # RFC 6750, section 3.1
    token = sent.get("Authorization", "").partition(" ")[2]
    assert not token or token not in answer.text + closed.log


def test_no_name_of_a_subject_breaks_a_line_of_the_log(closed: Server, topic: str) -> None:
    token = encode(mercure={}, sub="ann\r\nstream ended: x\0\x1b[2J")
    with closed.listen(topic=topic, headers=authorization(token)) as stream:
        stream.next()
    until(lambda: closed.left(topic), "it is written")
    [line] = [it for it in closed.log.splitlines() if "stream ended" in it and topic in it]
    assert "sub=ann%0D%0Astream%20ended:" in line
    assert line.isprintable()
    assert escape("ann \ud83d") == "ann%20?"


def test_a_template_in_a_grant_covers_its_topics(closed: Server) -> None:
    headers = authorization(encode(mercure={"publish": ["/users/{id}"]}))
    publish = {"topic": "/users/1"}, {"topic": "/users/1/secret"}
    answers = [closed.http.post("/events", data=data, headers=headers) for data in publish]
    assert [answer.status_code for answer in answers] == [200, 403]


def test_private_events_need_a_grant_and_public_ones_do_not(closed: Server) -> None:
    token = encode(mercure={"publish": ["*"], "subscribe": ["/users/{id}"]})
    with (
        closed.listen(topic="*") as anyone,
        closed.listen(topic="*", headers=authorization(token)) as one,
    ):
        for data, topic, private in (
            ("secret", "/users/1", True),
            ("for others", "/admins/1", True),
            ("public", "/news", False),
        ):
            event = {"data": data, "topic": topic, "private": private}
            assert (
                closed.http.post("/events", json=event, headers=authorization(token)).status_code
                == 200
            )
        assert anyone.take(1) == ["public"]
        assert one.take(2) == ["secret", "public"]


def test_a_stranger_learns_only_the_position_of_a_private_event(closed: Server) -> None:
    headers = authorization(encode(mercure=ALL))
    secret = {"data": "secret", "topic": ["/shown", "/hidden"], "type": "quiet", "private": True}
    position = closed.http.post("/events", json=secret, headers=headers).text.strip()
    with closed.listen(topic="/shown", since="2100-01-01") as stranger:
        assert stranger.next().id == stranger.headers["Last-Event-ID"] == position
        shown = {"data": "shown", "topic": "/shown"}
        assert closed.http.post("/events", json=shown, headers=headers).status_code == 200
        assert stranger.take(1) == ["shown"]
    assert not any(word in stranger.raw for word in (b"secret", b"hidden", b"quiet"))


def test_an_envelope_names_only_granted_private_topics(
    closed: Server,
) -> None:
    token = encode(mercure={"publish": ["*"], "subscribe": ["/users/{id}"]})
    headers, ask = authorization(token), {"topic": "*", "envelope": "1"}
    topics = ["/admins/1", "/users/1", "/users/2"]
    with closed.listen(f"/events?{urlencode(ask)}", headers) as live:
        opening = live.next().id
        for private in (True, False):
            event = {"data": "x", "topic": topics, "private": private}
            assert closed.http.post("/events", json=event, headers=headers).status_code == 200
        seen = live.take(2)
    with closed.listen(f"/events?{urlencode(ask)}&last_event_id={opening}", headers) as replayed:
        assert replayed.take(2) == seen
    secret, public = map(json.loads, seen)
    assert (secret["topic"], secret["topics"]) == ("/users/1", topics[1:])
    assert (public["topic"], public["topics"]) == ("/admins/1", topics)


def test_a_query_and_a_cookie_carry_a_token_too(closed: Server) -> None:
    token = encode(mercure=ALL)
    assert closed.http.post(f"/events?authorization={token}", data={"data": "x"}).status_code == 200
    for origin, status in (
        (None, 403),
        ("https://evil.example", 403),
        ("https://page.example", 200),
        (closed.url, 200),
    ):
        headers = {"Cookie": f"mercureAuthorization={token}"}
        headers |= {"Origin": origin} if origin else {}
        answer = closed.http.post("/events", data={"data": "x"}, headers=headers)
        assert answer.status_code == status, origin


@pytest.fixture(name="proxied", scope="module")
def _proxied(serve: Callable[..., Server]) -> Server:
    return serve(TIDINGS_JWT_KEY=KEY, TIDINGS_TRUSTED_PROXIES="1")


def publish_by_cookie(
    hub: Server, origin: str, address: str = "127.0.0.1", **headers: str
) -> httpx.Response:
    cookie = {"Cookie": f"{COOKIE}={VALID}", "Origin": origin}
    way = httpx.HTTPTransport(local_address=address, verify=False)
    with httpx.Client(base_url=hub.url, transport=way, timeout=PATIENCE, trust_env=False) as client:
        return client.post("/events", data={"data": "x"}, headers=cookie | headers)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2"])
def test_proxies_are_believed_about_https_if_they_are_trusted(
    closed: Server, proxied: Server, address: str
) -> None:
    for hub, status in ((closed, 403), (proxied, 200)):
        origin, forwarded = hub.url.replace("http:", "https:"), {"X-Forwarded-Proto": "https"}
        assert publish_by_cookie(hub, origin, address, **forwarded).status_code == status


def test_a_page_that_may_not_publish_is_told_both_origins(proxied: Server) -> None:
    own, host = proxied.url, proxied.url.partition("//")[2]
    name, _, port = host.partition(":")
    for origin, sent, hint in (
        ("https://evil.example", {}, "TIDINGS_PUBLISH_ORIGINS"),
        (own.replace("http:", "https:"), {}, "X-Forwarded-Proto"),
        (own, {"Host": name}, "$http_host"),
        ("https://evil.example, <b>", {}, "TIDINGS_PUBLISH_ORIGINS"),
    ):
        answer = publish_by_cookie(proxied, origin, **sent)
        document = answer.json()
        assert answer.status_code == 403
        assert f"Pages of {escape(origin)} may not publish with a cookie" in document["detail"]
        assert f"those of http://{sent.get('Host', host)} may" in document["detail"]
        assert hint in document["remedy"]
        assert "WWW-Authenticate" not in answer.headers
    assert publish_by_cookie(proxied, f"http://{name}", Host=f"{name}:80").status_code == 200
    assert publish_by_cookie(proxied, f"https://{name}:{port}").status_code == 403


def test_a_cookie_without_an_origin_is_told_so(proxied: Server) -> None:
    answer = proxied.http.post("/events", data={"data": "x"}, headers={"Cookie": f"{COOKIE}=x"})
    assert "Origin" in answer.json()["detail"]


PASSED_OVER = {
    "no token": ({}, "none", None),
    "an empty header": ({"Authorization": ""}, "none", None),
    "a proxy's password": ({"Authorization": "Basic eDp5"}, "none", None),
    "a password and a cookie": (
        {"Authorization": "Basic eDp5", "Cookie": f"{COOKIE}={VALID}"},
        "used",
        None,
    ),
    "a token": ({"Authorization": f"bearer {VALID}"}, "used", None),
    "an empty cookie": ({"Cookie": f"{COOKIE}="}, "none", None),
    "an expired cookie": ({"Cookie": f"{COOKIE}={STALE}"}, "ignored", "expired"),
    "a cookie that is no token": ({"Cookie": f"{COOKIE}=deleted"}, "ignored", "invalid"),
    "an expired cookie first": ({"Cookie": f"{COOKIE}={STALE}; {COOKIE}={VALID}"}, "used", None),
    "an expired cookie second": ({"Cookie": f"{COOKIE}={VALID}; {COOKIE}={STALE}"}, "used", None),
    "an empty cookie first": ({"Cookie": f"{COOKIE}=; {COOKIE}={VALID}"}, "used", None),
    "a token without the claim": (authorization(encode(sub="ann")), "used", None),
    "a subject that is a number": (authorization(by_hand('"sub": 7')), "used", None),
}


@pytest.mark.parametrize(("headers", "use", "why"), PASSED_OVER.values(), ids=PASSED_OVER)
def test_the_first_event_says_whether_the_token_was_used(
    closed: Server, headers: dict[str, str], use: str, why: str | None
) -> None:
    with closed.listen(headers=headers) as stream:
        opened = json.loads(stream.next().data)
    assert (opened["token"], opened.get("why")) == (use, why)


def test_without_a_key_no_token_is_used(server: Server) -> None:
    with server.listen(headers=authorization("nonsense")) as stream:
        assert json.loads(stream.next().data)["token"] == "none"


@pytest.mark.parametrize(("size", "status"), [(11_900, 200), (13_000, 431)])
def test_a_token_of_sixteen_kilobytes_passes(closed: Server, size: int, status: int) -> None:
    token = encode(mercure={"subscribe": ["news"]}, padding="x" * size)  # a third longer in base64
    with closed.http.stream("GET", "/events", headers=authorization(token)) as answer:
        assert answer.status_code == status


def test_only_so_many_cookies_are_tried(closed: Server) -> None:
    cookies = "; ".join([f"{COOKIE}=x"] * 8 + [f"{COOKIE}={VALID}"])
    with closed.listen(headers={"Cookie": cookies}) as stream:
        assert json.loads(stream.next().data)["token"] == "ignored"


def test_a_subscriber_with_a_bad_token_is_refused_and_without_one_let_in(closed: Server) -> None:
    answer = closed.http.get("/events", headers=authorization("nonsense"))
    assert answer.status_code == 401
    with closed.listen() as stream:
        assert stream.next().type == "hub.open"


def test_with_anonymous_off_nobody_reads_without_a_token(serve: Callable[..., Server]) -> None:
    server = serve(TIDINGS_JWT_KEY=KEY, TIDINGS_ANONYMOUS="0")
    stale = {"Cookie": f"{COOKIE}={STALE}"}
    for headers in ({}, stale, {"Authorization": "Basic eDp5"}):
        assert server.http.get("/events", headers=headers).status_code == 401
    assert server.http.get("/events", headers=authorization(encode(sub="me"))).status_code == 403
    with server.listen(headers=authorization(encode(mercure={}))) as stream:
        assert stream.next().type == "hub.open"


def test_a_stream_ends_with_its_token(closed: Server) -> None:
    def end(seconds: float) -> str:
        headers = authorization(encode(mercure=ALL, exp=time.time() + seconds))
        return closed.http.get("/events", headers=headers).text

    bye = 'data: {"reason": "token_expired"}\n\n'
    assert given_time(end, lambda text: text.endswith(bye)).endswith(bye)


def test_without_a_key_nothing_private_is_accepted(server: Server, topic: str) -> None:
    answer = server.http.post("/events", json={"topic": topic, "private": True})
    assert answer.status_code == 403
    assert "TIDINGS_JWT_KEY" in answer.json()["remedy"]


def test_only_a_worker_with_a_key_loads_cryptography(server: Server, closed: Server) -> None:
    maps = [system(f"/proc/{hub.worker}/maps") for hub in (server, closed)]
    assert ["/cryptography/" in it for it in maps] == [False, True]
