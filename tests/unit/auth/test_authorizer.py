"""Each token that is refused is refused with its cause."""

from __future__ import annotations

import json
from typing import Any

import jwt
import pytest

from support.signing_keys import RSA
from support.tokens import KEY
from webapp.auth import authorizer as module
from webapp.auth.authorizer import Authorizer, Grant
from webapp.config.settings import Settings
from webapp.errors import Forbidden, Unauthorized

ALL = {"publish": ["*"]}
OTHER = "another-key-that-is-just-as-long-as-ours"


def encode(key: Any = KEY, algorithm: str = "HS256", typ: Any = "JWT", **claims: Any) -> str:
    return jwt.encode({"mercure": ALL, **claims}, key, algorithm, {"typ": typ})


def signed(claims: str) -> str:
    """Return a token with claims that a library would refuse to sign."""
    texts = ('{"alg": "HS256"}', claims)
    text = ".".join(jwt.utils.base64url_encode(it.encode()).decode() for it in texts)
    signature = jwt.get_algorithm_by_name("HS256").sign(text.encode(), KEY.encode())
    return f"{text}.{jwt.utils.base64url_encode(signature).decode()}"


NESTED = "[" * 100_000 + "]" * 100_000
CAUSES = {
    "in quotes": (f'"{encode()}"', "not a JWT"),
    "cut off": (encode()[:-50], "not a JWT"),
    "a kid that is a number": (
        jwt.encode({}, KEY).replace(
            jwt.encode({}, KEY).split(".")[0], "eyJhbGciOiJIUzI1NiIsImtpZCI6N30"
        ),
        "header is not valid",
    ),
    "another type": (encode(typ="dpop+jwt"), "typ in the token's header"),
    "a type that is null": (encode(typ=7), "typ in the token's header"),
    "another key": (encode(OTHER), "has signed the token"),
    "another algorithm": (encode(RSA, "RS256"), "fits the token's alg and kid"),
    "no algorithm": (encode("", "none"), "fits the token's alg and kid"),
    "expired": (encode(exp=1), "has expired"),
    "not yet valid": (encode(nbf=1 << 33), "not valid yet"),
    "an exp that is text": (encode(exp="soon"), "token's exp"),
    "an exp without end": (signed('{"exp": 1e999}'), "token's exp"),
    "an exp that is text of digits": (encode(exp="9999999999"), "token's exp is not a number"),
    "a list of claims": (signed("[]"), "payload not JSON"),
    "nested claims": (signed(NESTED), "payload not JSON"),
    "a sub that is a number": (signed(json.dumps({"mercure": ALL, "sub": 7})), "token's sub"),
    "a jti that is a number": (signed(json.dumps({"mercure": ALL, "jti": 7})), "token's jti"),
    "without the claim": (jwt.encode({}, KEY), "no claim mercure"),
    "publish that is no list": (encode(mercure={"publish": "*"}), 'such as ["*"]'),
}


@pytest.mark.parametrize(("token", "cause"), CAUSES.values(), ids=CAUSES)
def test_a_refusal_names_the_cause(token: str, cause: str) -> None:
    authorizer = Authorizer(Settings(jwt_key=(KEY,)))
    with pytest.raises(Unauthorized) as refused:
        authorizer.publish(token)
    assert cause in refused.value.detail
    assert token not in str(refused.value)


@pytest.fixture(name="decoded")
def _decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the tokens that were verified, in order."""
    tokens: list[str] = []
    decode = jwt.decode

    def counting(token: str, *arguments: Any, **options: Any) -> Any:
        tokens.append(token)
        return decode(token, *arguments, **options)

    monkeypatch.setattr(jwt, "decode", counting)
    return tokens


def test_a_token_is_verified_once_for_each_use(decoded: list[str]) -> None:
    authorizer, token = Authorizer(Settings(jwt_key=(KEY,))), encode()
    assert authorizer.publish(token) is authorizer.publish(token)
    assert authorizer.subscribe(token) is authorizer.subscribe(token)
    assert decoded == [token, token]


def test_a_token_of_a_publisher_stays_refused_for_subscribing() -> None:
    authorizer = Authorizer(Settings(publisher_jwt_key=(KEY,), subscriber_jwt_key=(OTHER,)))
    token = encode()
    assert authorizer.publish(token)
    with pytest.raises(Unauthorized):
        authorizer.subscribe(token)


def test_a_verified_token_is_verified_again_when_it_expires(
    decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    authorizer, token = Authorizer(Settings(jwt_key=(KEY,))), encode(exp=1 << 33)
    authorizer.publish(token)
    monkeypatch.setattr(module, "time", lambda: 1 << 33)
    authorizer.publish(token)
    assert decoded == [token, token]


def test_a_verified_token_can_be_revoked() -> None:
    revoked: list[Grant] = []
    authorizer = Authorizer(Settings(jwt_key=(KEY,)), revoked.__contains__)
    revoked.append(authorizer.publish(encode()))
    with pytest.raises(Unauthorized, match="revoked"):
        authorizer.publish(encode())


def test_only_some_verified_tokens_are_remembered() -> None:
    authorizer = Authorizer(Settings(jwt_key=(KEY,)))
    for number in range(600):
        authorizer.publish(encode(sub=str(number)))
        with pytest.raises(Unauthorized):
            authorizer.publish(encode(OTHER, sub=str(number)))
    assert 0 < len(authorizer._verified_grants) <= 256
    with pytest.raises(Forbidden):
        authorizer.publish(encode(mercure={"subscribe": ["*"]}))
