"""What a signature is checked with: types of keys, published ones, their rotation and loss."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from support.project import ROOT
from support.server import running
from support.signing_keys import ED, P256, P384, P521, RSA, RSA_2, pem
from support.tokens import KEY
from support.waiting import PATIENCE, given_time, until
from webapp.auth import jwks
from webapp.auth.authorizer import Authorizer
from webapp.config import parsers
from webapp.config.settings import Settings
from webapp.core.version import __version__
from webapp.errors import Misconfigured, ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.server import Server
    from webapp.core.sse import ServerSentEvent

pytestmark = pytest.mark.slow

ALL = {"publish": ["*"], "subscribe": ["*"]}
OTHER = "another-key-that-is-just-as-long-as-ours"
SIGNERS: dict[str, Any] = {
    **dict.fromkeys(["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"], RSA),
    "ES256": P256,
    "ES384": P384,
    "ES512": P521,
    "EdDSA": ED,
}


def token(key: Any, algorithm: str, *, headers: dict[str, Any] | None = None, **claims: Any) -> str:
    return jwt.encode({"mercure": ALL, **claims}, key, algorithm, headers)


def status(server: Server, token: str) -> int:
    headers = {"Authorization": f"Bearer {token}"}
    return server.http.post("/events", data={"data": "x"}, headers=headers).status_code


@pytest.fixture(name="public", scope="module")
def _public(serve: Callable[..., Server]) -> Server:
    return serve(TIDINGS_JWT_KEY=pem(RSA, P256, P384, P521, ED).replace("\n", "\\n"))


@pytest.mark.parametrize("algorithm", SIGNERS)
def test_a_public_key_verifies_what_its_type_can(public: Server, algorithm: str) -> None:
    assert status(public, token(SIGNERS[algorithm], algorithm)) == 200


def test_a_public_key_is_no_shared_secret(public: Server) -> None:
    # PyJWT refuses to sign so; an attacker does it by hand.
    for secret in (pem(RSA), pem(P256), pem(RSA, P256, P384, P521, ED)):
        for algorithm in ("HS256", "HS384", "HS512"):
            assert status(public, signed_by_hand(secret, algorithm)) == 401


def signed_by_hand(secret: str, algorithm: str) -> str:
    tool = jwt.get_algorithm_by_name(algorithm)
    parts = [{"alg": algorithm, "typ": "JWT"}, {"mercure": ALL}]
    text = ".".join(jwt.utils.base64url_encode(json.dumps(p).encode()).decode() for p in parts)
    signature = tool.sign(text.encode(), secret.encode())
    return f"{text}.{jwt.utils.base64url_encode(signature).decode()}"


@pytest.fixture(name="keyed", scope="module")
def _keyed(serve: Callable[..., Server]) -> Server:
    """A hub with one shared secret."""
    return serve(TIDINGS_JWT_KEY=KEY)


def test_a_shared_secret_verifies_no_other_kind(keyed: Server) -> None:
    assert status(keyed, signed_by_hand(KEY, "HS256")) == 200
    for algorithm, key in SIGNERS.items():
        assert status(keyed, token(key, algorithm)) == 401
    for kind in ("dpop+jwt", "logout+jwt", "JWE", 7):
        assert status(keyed, token(KEY, "HS256", headers={"typ": kind})) == 401


def test_both_keys_are_good_while_one_is_rotated(serve: Callable[..., Server]) -> None:
    server = serve(TIDINGS_JWT_KEY=f"{OTHER},{KEY}")
    assert status(server, token(OTHER, "HS256")) == status(server, token(KEY, "HS256")) == 200
    assert status(server, token(f"{OTHER},{KEY}", "HS256")) == 401


def test_publishers_and_subscribers_may_have_keys_of_their_own(
    serve: Callable[..., Server], topic: str
) -> None:
    server = serve(TIDINGS_PUBLISHER_JWT_KEY=KEY, TIDINGS_SUBSCRIBER_JWT_KEY=pem(P256))
    assert status(server, token(KEY, "HS256")) == 200
    assert status(server, token(P256, "ES256")) == 401
    subscriber = {"Authorization": f"Bearer {token(P256, 'ES256')}"}
    with server.listen(headers=subscriber, topic=topic) as stream:
        stream.next()
        private = {"topic": topic, "data": "secret", "private": "on"}
        publisher = {"Authorization": f"Bearer {token(KEY, 'HS256')}"}
        server.http.post("/events", data=private, headers=publisher).raise_for_status()
        assert stream.take(1) == ["secret"]
    wrong = server.http.get("/events", headers={"Authorization": f"Bearer {token(KEY, 'HS256')}"})
    assert wrong.status_code == 401


def test_only_accepted_algorithms_audiences_and_issuers_are_good(
    serve: Callable[..., Server],
) -> None:
    server = serve(
        TIDINGS_JWT_KEY=pem(RSA),
        TIDINGS_JWT_ALGORITHM="PS256, ES256",
        TIDINGS_JWT_AUDIENCE="hub",
        TIDINGS_JWT_ISSUER="https://issuer.example",
    )
    mine: dict[str, Any] = {"aud": ["other", "hub"], "iss": "https://issuer.example"}
    assert status(server, token(RSA, "PS256", **mine)) == 200
    assert status(server, token(RSA, "RS256", **mine)) == 401
    for claims in ({"aud": "other"}, {"iss": "someone"}, {"aud": None}, {"iss": None}):
        kept = {k: v for k, v in {**mine, **claims}.items() if v is not None}
        assert status(server, token(RSA, "PS256", **kept)) == 401


def test_a_clock_that_is_a_little_ahead_made_a_good_token(keyed: Server) -> None:
    assert status(keyed, token(KEY, "HS256", iat=time.time() + 30)) == 200


REFUSALS = {
    "a private key": pem(RSA).replace("PUBLIC", "PRIVATE"),
    "a broken PEM": "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
    "a small RSA key": pem(rsa.generate_private_key(65537, 1024)),
    "a curve of another use": pem(ec.generate_private_key(ec.SECP256K1())),
    "the key of a documentation": "!ChangeThisMercureHubJWTSecretKey!",
    "a key of few characters": "01" * 16,
    "one of two too short": f"{KEY},short",
}


@pytest.mark.parametrize("text", REFUSALS.values(), ids=REFUSALS)
def test_a_weak_or_wrong_key_is_refused(text: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        Authorizer(Settings.from_env({"TIDINGS_JWT_KEY": text}))
    assert text not in str(refused.value)


def test_a_weak_key_is_refused_at_the_start(tmp_path: Path) -> None:
    log, text = tmp_path / "log", REFUSALS["a small RSA key"]
    with running(["-b", "127.0.0.1:0"], {"TIDINGS_JWT_KEY": text}, log) as process:
        assert process.wait(PATIENCE) != 0
    said = log.read_text()
    assert "Tidings does not start: " in said
    assert text not in said
    assert "Traceback" not in said


def test_a_private_pem_is_named_as_what_it_is() -> None:
    form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(ValueError, match="public keys as PEM"):
        parsers.keys(RSA.private_bytes(*form).decode())


class Publisher(ThreadingHTTPServer):
    """Publishes public keys, and can fail."""

    daemon_threads = True

    def __init__(self, *private: tuple[str, Any]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.publish(*private)
        self.status = 200
        self.raw = b""  # sent instead of an answer
        self.asked = 0
        self.headers: Any = {}  # of the last request

    def publish(self, *private: tuple[str, Any]) -> None:
        self.body = json.dumps({"keys": [jwk(*named) for named in private]}).encode()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/jwks.json"


class Handler(BaseHTTPRequestHandler):
    server: Publisher

    def do_GET(self) -> None:
        self.server.asked += 1
        self.server.headers = self.headers
        if self.server.raw:
            self.wfile.write(self.server.raw)
            return
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_: Any) -> None:
        """Be quiet."""


def jwk(id: str, key: Any) -> dict[str, Any]:
    if isinstance(key, str):
        secret = jwt.utils.base64url_encode(key.encode()).decode()
        return {"kty": "oct", "k": secret, "kid": id, "alg": "HS256"}
    kinds = {rsa.RSAPrivateKey: "RS256", ec.EllipticCurvePrivateKey: "ES256"}
    name = next((name for kind, name in kinds.items() if isinstance(key, kind)), "EdDSA")
    tool: Any = jwt.get_algorithm_by_name(name)
    return {**json.loads(tool.to_jwk(key.public_key())), "kid": id, "use": "sig"}


@pytest.fixture(name="publisher")
def _publisher() -> Iterator[Publisher]:
    with Publisher(("one", RSA), ("secret", KEY), ("ed", ED)) as publisher:
        thread = threading.Thread(target=publisher.serve_forever)
        thread.start()
        yield publisher
        publisher.shutdown()
        thread.join(PATIENCE)


def named(key: Any, algorithm: str, id: str | None) -> str:
    return token(key, algorithm, headers={"kid": id} if id else None)


def test_published_keys_are_used_and_asked_for_once(
    serve: Callable[..., Server], publisher: Publisher
) -> None:
    server = serve(TIDINGS_JWKS_URL=publisher.url)
    for _ in range(3):
        assert status(server, named(RSA, "PS256", "one")) == 200
        assert status(server, named(ED, "EdDSA", None)) == 200
        assert status(server, named(RSA, "RS256", "ed")) == 401
        assert status(server, named(KEY, "HS256", "secret")) == 401  # it is public
    for number in range(20):
        assert status(server, named(RSA_2, "RS256", f"made up {number}")) == 401
    assert publisher.asked == 1


def test_without_published_keys_tokens_wait_and_public_subscribers_do_not(
    serve: Callable[..., Server], publisher: Publisher, topic: str
) -> None:
    publisher.status = 500
    server = serve(TIDINGS_JWKS_URL=publisher.url)
    assert status(server, named(RSA, "RS256", "one")) == 503
    with server.listen(topic=topic) as stream:
        assert stream.next().type == "hub.open"
    accept = {"Accept": "text/event-stream"}
    headers = {"Authorization": f"Bearer {named(RSA, 'RS256', 'one')}"}
    with server.listen(headers=accept | headers) as stream:  # an EventSource must come back
        assert [message.type for message in stream.rest()] == ["hub.bye"]
    assert publisher.asked == 1


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
TROUBLE = {
    "no HTTP": b"\x16\x03\x01 not http\r\n\r\n",
    "nothing": b"\r\n",
    "a chunk that is cut": CHUNKED + b'ff\r\n{"keys"',
    "no chunk": CHUNKED + b"zz\r\n",
    "a deep document": b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 900_000,
    "a long one": b"HTTP/1.1 200 OK\r\n\r\n" + b" " * (1 << 21),
    "no JSON": b"HTTP/1.1 200 OK\r\n\r\n<html>",
    "no UTF-8": b"HTTP/1.1 200 OK\r\n\r\n\xff\xfe\xff",
    "no keys": b'HTTP/1.1 200 OK\r\n\r\n{"keys": 7}',
    "a redirect to a file": b"HTTP/1.1 302 x\r\nLocation: file:///etc/passwd\r\n\r\n",
    "a redirect to itself": b"HTTP/1.1 302 x\r\nLocation: /jwks.json\r\n\r\n",
    "a redirect to nowhere": b"HTTP/1.1 302 x\r\nLocation: http://[\r\n\r\n",
}


def test_a_url_is_asked_by_name_and_for_a_jwks(publisher: Publisher) -> None:
    publisher.raw = b"HTTP/1.1 302 x\r\nLocation: /other.json\r\n\r\n"
    with pytest.raises(ServiceUnavailable):
        jwks.JwksClient(publisher.url, ()).keys_for("one")
    assert publisher.asked > 1
    assert publisher.headers["User-Agent"] == f"Tidings/{__version__}"
    assert publisher.headers["Accept"] == "application/jwk-set+json, application/json"


@pytest.mark.parametrize(
    ("head", "body", "what"),
    [
        ("Content-Type: text/html\r\n", "<html>\n\x1b[2J", r"not JSON: text/html, beginning with"),
        ("", "", "not JSON: no Content-Type, beginning with"),
        ("Content-Type: application/json\r\n", '{"keys": 7}', "JSON without a list keys"),
        ("Content-Type: application/json\r\n", "[]", "JSON without a list keys"),
    ],
)
def test_the_log_says_what_an_answer_is_that_is_no_jwks(
    publisher: Publisher, caplog: pytest.LogCaptureFixture, head: str, body: str, what: str
) -> None:
    publisher.raw = f"HTTP/1.1 200 OK\r\n{head}\r\n{body}".encode()
    with pytest.raises(ServiceUnavailable):
        jwks.JwksClient(publisher.url, ()).keys_for("one")
    [record] = caplog.records
    assert what in record.getMessage()
    assert record.getMessage().isprintable()


def test_keys_that_are_not_used_are_logged_once(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    monkeypatch.setattr("webapp.auth.jwks.time", clock)
    many = [jwk("one", RSA)] * 100 + [jwk("last", ED)]
    publisher.body = json.dumps({"keys": many}).encode()
    published = jwks.JwksClient(publisher.url, ())
    for _ in range(2):
        assert published.keys_for("last") == []
        clock.now += 11
    [record] = caplog.records
    assert "has 101 keys, and the hub uses 100" in record.getMessage()
    publisher.publish(("one", RSA), ("secret", KEY))
    assert published.keys_for("last") == []
    assert "has 2 keys, and the hub uses 1" in caplog.records[-1].getMessage()


@pytest.mark.parametrize("raw", TROUBLE.values(), ids=TROUBLE)
def test_whatever_a_url_answers_tokens_wait_and_nothing_breaks(
    publisher: Publisher, caplog: pytest.LogCaptureFixture, raw: bytes
) -> None:
    published = jwks.JwksClient(publisher.url, ())
    publisher.raw = raw
    with pytest.raises(ServiceUnavailable, match="TIDINGS_JWKS_URL"):
        published.keys_for("one")
    assert len([it for it in caplog.records if "no keys from TIDINGS_JWKS_URL" in it.message]) == 1


def test_no_other_host_is_asked_for_keys(publisher: Publisher) -> None:
    with Publisher(("one", RSA)) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        publisher.raw = b"HTTP/1.1 302 x\r\nLocation: %s\r\n\r\n" % other.url.encode()
        with pytest.raises(ServiceUnavailable):
            jwks.JwksClient(publisher.url, ()).keys_for("one")
        other.shutdown()
        thread.join(PATIENCE)
    assert (publisher.asked, other.asked) == (1, 0)


def test_a_key_of_an_odd_form_is_left_out_and_others_are_good(publisher: Publisher) -> None:
    good = jwk("one", RSA)
    odd = [{**good, "alg": ["RS256"]}, {**good, "kid": ["one"]}, {**good, "n": 7}, 7, None, [good]]
    publisher.body = json.dumps({"keys": [*odd, good]}).encode()
    assert [key.id for key in jwks.JwksClient(publisher.url, ()).keys_for("one")] == ["one"]


def test_a_failure_is_logged_once_a_minute_for_each_kind(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    monkeypatch.setattr("webapp.auth.jwks.time", clock)
    published = jwks.JwksClient(publisher.url, ())
    for status in (500, 500, 200, 500):
        publisher.status, publisher.raw = status, b"" if status == 500 else b"no HTTP\r\n"
        clock.now += 11
        with pytest.raises(ServiceUnavailable):
            published.keys_for("one")
    assert publisher.asked == 4
    assert len(caplog.records) == 2
    clock.now += 61
    publisher.raw = b""
    with pytest.raises(ServiceUnavailable):
        published.keys_for("one")
    assert len(caplog.records) == 3


def test_an_unknown_key_is_not_wrong_while_the_url_fails(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr("webapp.auth.jwks.time", clock)
    published = jwks.JwksClient(publisher.url, ())
    assert published.keys_for("unknown") == []
    publisher.status = 500
    clock.now += 11
    with pytest.raises(ServiceUnavailable):
        published.keys_for("two")
    assert [key.id for key in published.keys_for("one")] == ["one"]


DRIPPING = """
from gevent import monkey; monkey.patch_all()
import gevent, json, sys, time
from gevent.server import StreamServer
from webapp.auth import jwks
from webapp.errors import ServiceUnavailable

jwks.DEADLINE_S = float(sys.argv[2])
asked = []

def drip(sock, address):
    asked.append(address)
    for _ in range(1000):
        sock.sendall(b"H" if sys.argv[1] == "head" else b"HTTP/1.1 200 OK\\r\\n\\r\\n{")
        gevent.sleep(0.02)

server = StreamServer(("127.0.0.1", 0), drip)
server.start()
published = jwks.JwksClient(f"http://127.0.0.1:{server.server_port}/", ())
refused = []

def ask(number):
    try:
        published.keys_for("one")
    except ServiceUnavailable:
        refused.append(number)

tasks = [gevent.spawn(ask, number) for number in range(jwks.MAX_WAITING_REQUESTS + 10)]
gevent.joinall(tasks, timeout=50)
at_once = refused.index(0)  # before the first one, which asks, has given up
print(json.dumps([at_once, len(refused), len(asked)]))
"""


@pytest.mark.parametrize("part", ["head", "body"])
def test_a_url_that_drips_holds_nobody_for_long(part: str) -> None:
    def counts(deadline: float) -> list[int]:
        command = [sys.executable, "-c", DRIPPING, part, str(deadline)]
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, timeout=2 * PATIENCE, check=True
        )
        found: list[int] = json.loads(done.stdout)
        return found

    # The deadline may be over before the URL is asked.
    at_once, refused, asked = given_time(counts, lambda found: found[2] == 1, (0.5, 5, 20))
    assert (refused, asked) == (60, 1)
    assert 9 <= at_once <= 10  # one looks, as many as may wait for it, and the others go


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


def test_published_keys_are_rotated_and_survive_an_outage(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr("webapp.auth.jwks.time", clock)
    published = jwks.JwksClient(publisher.url, ())
    assert [key.id for key in published.keys_for("one")] == ["one"]
    publisher.publish(("two", RSA_2))
    assert published.keys_for("two") == []  # asked a moment ago
    clock.now += 11
    assert [key.id for key in published.keys_for("two")] == ["two"]
    assert published.keys_for("one") == []
    publisher.status = 503
    clock.now += 1000
    assert [key.id for key in published.keys_for("two")] == ["two"]  # what is there is good
    until(lambda: publisher.asked == 3, "it is asked for again, and nobody waits for it")
    until(lambda: not published._fetching.locked(), "that fetch has failed")
    publisher.status = 200
    publisher.publish(("three", P256))
    clock.now += 1000
    published.keys_for("two")
    until(lambda: [key.id for key in published.keys_for(None)] == ["three"], "it has the new one")


def test_an_expiring_token_is_announced_and_a_fresh_one_resumes(keyed: Server, topic: str) -> None:
    headers = {"Authorization": f"Bearer {token(KEY, 'HS256')}"}

    def publish(data: str) -> None:
        fields = {"topic": topic, "data": data, "private": "on"}
        keyed.http.post("/events", data=fields, headers=headers).raise_for_status()

    def messages_until_expiry(seconds: float) -> list[ServerSentEvent]:
        ends = int(time.time() + seconds)
        short = {"Authorization": f"Bearer {token(KEY, 'HS256', exp=ends)}"}
        with suppress(AssertionError), keyed.listen(headers=short, topic=topic) as stream:
            assert stream.next().type == "hub.open"
            publish("1")
            messages = stream.rest()
            [expiring] = [json.loads(m.data) for m in messages if m.type == "hub.expiring"]
            assert expiring == {"expires": ends}
            return messages
        return []  # it was late, and refused

    def types(messages: list[ServerSentEvent]) -> list[str]:
        return sorted(message.type for message in messages)

    expected = ["hub.bye", "hub.expiring", "message"]
    messages = given_time(messages_until_expiry, lambda it: types(it) == expected)
    assert types(messages) == expected
    assert json.loads(messages[-1].data) == {"reason": "token_expired"}
    publish("2")
    with keyed.listen(headers=headers, topic=topic, last_event_id=messages[-1].id) as stream:
        assert stream.take(1) == ["2"]
