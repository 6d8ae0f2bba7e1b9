"""`tidings token`: the tokens that it makes, and what it shows of others."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from support.cli import within_test
from support.signing_keys import ED, P256, RSA, pem
from support.tokens import KEY, authorization
from webapp.auth.authorizer import Authorizer
from webapp.config.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.server import Server


@pytest.mark.slow
def test_a_hub_accepts_its_tokens_and_it_shows_what_they_grant(
    serve: Callable[..., Server],
) -> None:
    env = {"TIDINGS_JWT_KEY": KEY, "TIDINGS_JWT_AUDIENCE": "hub", "TIDINGS_JWT_ISSUER": "me"}
    server = serve(**env)
    made = within_test("token", "--publish", "news", "-s", "/users/{id}", "--expires", "5m", **env)
    token = made.output.strip()
    for topic, status in (("news", 200), ("other", 403)):
        answer = server.http.post("/events", data={"topic": topic}, headers=authorization(token))
        assert answer.status_code == status
    shown = within_test("token", token).output
    assert "may publish to  news" in shown
    assert "may read        /users/{id}" in shown
    assert re.search(r"in (300|29\d|28\d) s", shown)
    assert "HS256" in shown


@pytest.mark.parametrize("key", [RSA, P256, ED], ids=["RSA", "P-256", "Ed25519"])
def test_the_public_key_verifies_tokens_signed_with_a_private_key(tmp_path: Path, key: Any) -> None:
    private = tmp_path / "private.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    options = ("--publish", "*", "--key", str(private), "--expires", "never")
    token = within_test("token", *options).output.strip()
    authorizer = Authorizer(Settings.from_env({"TIDINGS_JWT_KEY": pem(key)}))
    assert authorizer.publish((token,)).publish == frozenset("*")
    assert "never" in within_test("token", token).output


@pytest.mark.parametrize(
    ("arguments", "env", "remedy"),
    [
        ((), {"TIDINGS_JWT_KEY": KEY}, "--publish '*'"),
        (("-p", "*"), {}, "TIDINGS_JWT_KEY"),
        (("-p", "*"), {"TIDINGS_JWT_KEY": pem(RSA)}, "--key"),
        (("-p", "*", "--expires", "soon"), {"TIDINGS_JWT_KEY": KEY}, "15s, 5m, 2h, 7d"),
        (("-p", "*"), {"TIDINGS_JWT_KEY": "short"}, "openssl rand -hex 32"),
        (("nonsense",), {}, "not a JWT"),
    ],
)
def test_an_error_names_its_remedy(
    arguments: tuple[str, ...], env: dict[str, str], remedy: str
) -> None:
    done = within_test("token", *arguments, **env)
    assert done.exit_code != 0
    assert remedy in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "remedy"), [("pkcs8.der", "openssl pkey -inform DER"), ("empty", "no key to sign")]
)
def test_a_bad_key_file_is_not_replaced_by_the_secret(
    tmp_path: Path, name: str, remedy: str
) -> None:
    (tmp_path / name).write_bytes(b"" if name == "empty" else b"\x30\x2e\xff")
    arguments = ("token", "-p", "*", "--key", str(tmp_path / name))
    done = within_test(*arguments, TIDINGS_JWT_KEY=KEY)
    assert (done.exit_code, done.stdout) == (1, "")
    assert remedy in done.stderr


def made(key: str = KEY, **claims: Any) -> str:
    return jwt.encode({"mercure": {"publish": ["news"]}, **claims}, key)


OTHER = "another-key-that-is-just-as-long-as-ours"
KEYED = {"TIDINGS_JWT_KEY": KEY}
REFUSED = {
    "another key": (made(OTHER), KEYED, "None of the hub's keys for this request has signed"),
    "another key and expired": (made(OTHER, exp=1), KEYED, "None of the hub's keys"),
    "expired": (made(exp=1), KEYED, "The token has expired: its exp"),
    "expired, no key": (made(exp=1), {}, "The token has expired: its exp"),
    "a jti": (made(jti=7), KEYED, "The token's jti is not a string"),
    "a jti, no key": (made(jti=7), {}, "The token's jti is not a string"),
    "no list": (made(mercure={"publish": "*"}), {}, "The token's mercure.publish is not a list"),
    "another hub": (made(), {**KEYED, "TIDINGS_JWT_AUDIENCE": "hub"}, "The token has no aud"),
    "another hub, no key": (made(), {"TIDINGS_JWT_AUDIENCE": "hub"}, "The token has no aud"),
    "no claim": (jwt.encode({}, KEY), {**KEYED, "TIDINGS_ANONYMOUS": "0"}, "no claim mercure"),
    "a publisher's": (
        made(),
        {"TIDINGS_PUBLISHER_JWT_KEY": KEY, "TIDINGS_SUBSCRIBER_JWT_KEY": OTHER},
        "for subscribing: None of the hub's keys",
    ),
}


@pytest.mark.parametrize(("token", "env", "why"), REFUSED.values(), ids=REFUSED)
def test_it_says_what_a_hub_would_refuse(token: str, env: dict[str, str], why: str) -> None:
    shown = within_test("token", token, **env)
    assert shown.exit_code == 1
    [line] = [it for it in shown.output.splitlines() if it.startswith("refused         ")]
    assert why in line


@pytest.mark.parametrize(
    ("token", "env", "signature"),
    [
        (made(), KEYED, "HS256, checked"),
        (made(sub="7"), {}, "HS256, not checked without TIDINGS_JWT_KEY"),
        (jwt.encode({"mercure": {"subscribe": ["news"]}}, KEY), KEYED, "HS256, checked"),
        (made(), {"TIDINGS_JWKS_URL": "http://127.0.0.1:1/"}, "HS256, not checked, as TIDINGS_JW"),
    ],
)
def test_it_checks_the_signature_if_it_can(token: str, env: dict[str, str], signature: str) -> None:
    shown = within_test("token", token, **env)
    assert shown.exit_code == 0
    assert f"signed with     {signature}" in shown.output
    assert "refused" not in shown.output


@pytest.mark.parametrize(
    ("head", "payload", "why"),
    [
        ('{"alg": "HS256", "kid": 7}', "{}", "The kid in the token's header"),
        ('{"alg": "HS256"}', "[" * 100_000, "The token's payload is not a JSON object"),
    ],
)
def test_what_is_no_token_is_named(head: str, payload: str, why: str) -> None:
    parts = [jwt.utils.base64url_encode(it.encode()).decode() for it in (head, payload)]
    shown = within_test("token", ".".join([*parts, "eA"]))
    assert shown.exit_code == 1
    assert why in shown.stderr


def test_a_foreign_token_cannot_control_the_terminal() -> None:
    claims = {"mercure": {"publish": ["\x1b[2Jx"]}, "exp": 10**20}
    shown = within_test("token", jwt.encode(claims, KEY)).output
    assert "may publish to  \\x1b[2Jx\n" in shown
    assert "ends            100000000000000000000, which no clock will show\n" in shown
    assert "\x1b" not in shown


def test_it_reads_mercures_longer_name_of_the_claim() -> None:
    claims = {"https://mercure.rocks/": {"publish": ["news"]}}
    shown = within_test("token", jwt.encode(claims, KEY)).output
    assert "may publish to  news\n" in shown
    assert "may read        nothing" in shown
    assert "It grants nothing" not in shown
    assert "It grants nothing" in within_test("token", jwt.encode({}, KEY)).output
