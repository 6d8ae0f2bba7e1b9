"""Each token that is refused is refused with its cause."""

from __future__ import annotations

import json
import re
import time
from typing import Any, NoReturn

import jwt
import pytest

from support.signing_keys import RSA
from support.tokens import KEY
from webapp.auth import authorizer as module
from webapp.auth.authorizer import Authorizer, Grant
from webapp.auth.claims import LEEWAY_S
from webapp.config.settings import Settings
from webapp.core.events import Draft
from webapp.errors import Forbidden, InsufficientScope, ServiceUnavailable, Unauthorized
from webapp.presence.revocations import Revocation

ALL = {"publish": ["*"]}
OTHER = "another-key-that-is-just-as-long-as-ours"


def encode(key: Any = KEY, algorithm: str = "HS256", typ: Any = "JWT", **claims: Any) -> str:
    return jwt.encode({"mercure": ALL, **claims}, key, algorithm, {"typ": typ})


def signed(claims: str, key: str = KEY, **header: Any) -> str:
    """Return a token with a header or claims that a library would refuse to sign."""
    texts = (json.dumps({"alg": "HS256", **header}), claims)
    text = ".".join(jwt.utils.base64url_encode(it.encode()).decode() for it in texts)
    signature = jwt.get_algorithm_by_name("HS256").sign(text.encode(), key.encode())
    return f"{text}.{jwt.utils.base64url_encode(signature).decode()}"


NESTED = "[" * 100_000 + "]" * 100_000
CAUSES = {
    "in quotes": (f'"{encode()}"', "not a JWT"),
    "cut off": (encode()[:-50], "not a JWT"),
    "nothing": ("", "sends nothing in place of a token"),
    "a variable without a value": ("undefined", "sends undefined in place of a token"),
    "a kid that is a number": (signed("{}", kid=7), "The kid in the token's header"),
    "a critical member": (signed("{}", crit=["x"], x=1), "The crit in the token's header"),
    "another type": (encode(typ="dpop+jwt"), "typ in the token's header"),
    "a type that is null": (encode(typ=7), "typ in the token's header"),
    "another key": (encode(OTHER), "has signed the token"),
    "another algorithm": (encode(RSA, "RS256"), "fits the token's alg and kid"),
    "no algorithm": (encode("", "none"), "fits the token's alg and kid"),
    "expired": (encode(exp=1), "has expired: its exp"),
    "not yet valid": (encode(nbf=1 << 33), "not valid yet: its nbf"),
    "a clock of an hour": (encode(nbf=int(time.time()) + 3600), "ahead of the hub's clock"),
    "an exp that is null": (signed('{"exp": null}'), "token's exp is not a number"),
    "an exp that is text": (encode(exp="soon"), "token's exp is not a number"),
    "an exp without end": (signed('{"exp": 1e999}'), "token's exp is not a time"),
    "an exp that is text of digits": (encode(exp="9999999999"), "token's exp is not a number"),
    "an exp in milliseconds": (encode(exp=1795759498708), "exp is not a time before the year"),
    "an iat in milliseconds": (encode(iat=1795759498708), "iat is not a time before the year"),
    "an nbf that is text": (encode(nbf="7"), "token's nbf is not a number"),
    "a list of claims": (signed("[]"), "payload is not a JSON object"),
    "nested claims": (signed(NESTED), "payload is not a JSON object"),
    "half a subject": (signed(json.dumps({"mercure": ALL, "sub": 7.5})), "token's sub"),
    "a subject that is null": (signed('{"sub": null}'), "token's sub"),
    "a subject that is true": (signed('{"sub": true}'), "token's sub"),
    "an endless subject": (signed('{"sub": 1e999}'), "token's sub"),
    "a jti that is a number": (signed(json.dumps({"mercure": ALL, "jti": 7})), "token's jti"),
    "a claim that is a list": (encode(mercure=["*"]), "token's mercure is not an object"),
    "publish that is no list": (encode(mercure={"publish": "*"}), 'such as ["*"]'),
}


@pytest.mark.parametrize(("token", "cause"), CAUSES.values(), ids=CAUSES)
def test_a_refusal_names_the_cause(token: str, cause: str) -> None:
    authorizer = Authorizer(Settings(jwt_key=(KEY,)))
    with pytest.raises(Unauthorized) as refused:
        authorizer.publish((token,))
    assert cause in refused.value.detail
    assert len(token) < len("undefined.") or token not in str(refused.value)


@pytest.mark.parametrize(("token", "cause"), CAUSES.values(), ids=CAUSES)
def test_a_challenge_repeats_the_cause(token: str, cause: str) -> None:
    with pytest.raises(Unauthorized) as refused:
        Authorizer(Settings(jwt_key=(KEY,))).publish((token,))
    challenge = refused.value.headers["WWW-Authenticate"]
    assert challenge.startswith('Bearer realm="tidings", error="invalid_token", error_desc')
    assert cause.replace('"', "'") in challenge
    assert re.fullmatch(r'Bearer( \w+="[^"\\]+",?)+', challenge)  # RFC 6750, section 3


def test_claims_of_a_wrong_type_have_one_remedy() -> None:
    authorizer, remedies = Authorizer(Settings(jwt_key=(KEY,))), set()
    for claims in ('{"sub": null}', '{"jti": 7}', '{"exp": "x"}', '{"mercure": 7}', "[]"):
        with pytest.raises(Unauthorized) as refused:
            authorizer.publish((signed(claims),))
        remedies.add(refused.value.remedy)
    assert len(remedies) == 1


WRONG_CLAIMS = [
    '{"exp": 1}',
    '{"nbf": 8589934592}',
    '{"sub": 7.5}',
    '{"jti": 7}',
    '{"aud": 7, "iss": 7}',
    '{"mercure": 7}',
    "[]",
]


@pytest.mark.parametrize("claims", WRONG_CLAIMS)
def test_a_wrong_signature_is_said_before_any_claim(claims: str) -> None:
    authorizer = Authorizer(Settings(jwt_key=(KEY,), jwt_audience="hub", jwt_issuer="me"))
    with pytest.raises(Unauthorized) as refused:
        authorizer.publish((signed(claims, OTHER),))
    assert refused.value.detail == "None of the hub's keys for this request has signed the token."


@pytest.mark.parametrize(
    ("claims", "cause"),
    [
        ({"aud": "other", "iss": "me"}, "token's aud does not contain TIDINGS_JWT_AUDIENCE"),
        ({"aud": "hub", "iss": "you"}, "token's iss is not TIDINGS_JWT_ISSUER"),
        ({"aud": 7, "iss": "me"}, "token's aud"),
        ({"iss": "me"}, "token has no aud"),
        ({"aud": "hub"}, "token has no iss"),
    ],
)
def test_a_token_for_another_hub_is_told_which_claim_says_so(
    claims: dict[str, Any], cause: str
) -> None:
    authorizer = Authorizer(Settings(jwt_key=(KEY,), jwt_audience="hub", jwt_issuer="me"))
    with pytest.raises(Unauthorized, match=cause):
        authorizer.publish((encode(**claims),))


@pytest.mark.parametrize(("number", "subject"), [("7", "7"), ("7.0", "7"), ("-1", "-1")])
def test_a_subject_may_be_a_whole_number(number: str, subject: str) -> None:
    token = signed(f'{{"mercure": {{"publish": ["*"]}}, "sub": {number}}}')
    assert Authorizer(Settings(jwt_key=(KEY,))).publish((token,)).subject == subject


def test_a_subject_that_is_a_number_is_revoked_by_its_text() -> None:
    token = signed('{"mercure": {"publish": ["*"]}, "iat": 1, "sub": 7}')
    authorizer = Authorizer(Settings(jwt_key=(KEY,)), Revocation("subject", "7", 2.0).matches)
    with pytest.raises(Unauthorized, match="revoked"):
        authorizer.publish((token,))


def test_a_clock_that_is_thirty_seconds_ahead_makes_valid_tokens() -> None:
    token = encode(nbf=int(time.time()) + LEEWAY_S)
    assert Authorizer(Settings(jwt_key=(KEY,))).publish((token,))


def test_an_exp_has_no_leeway() -> None:
    with pytest.raises(Unauthorized, match="expired"):
        Authorizer(Settings(jwt_key=(KEY,))).publish((encode(exp=int(time.time()) - 1),))


def test_without_a_key_no_token_is_valid() -> None:
    with pytest.raises(Unauthorized, match="has no key"):
        Authorizer(Settings()).decode(encode())


@pytest.mark.parametrize("tokens", [(0, 1), (1, 0), (0, 0, 1)])
def test_any_valid_token_of_a_request_counts(tokens: tuple[int, ...]) -> None:
    both = encode(exp=1), encode(sub="ann")
    grant = Authorizer(Settings(jwt_key=(KEY,))).publish(tuple(both[it] for it in tokens))
    assert grant.subject == "ann"


def test_a_token_whose_key_is_unavailable_is_not_called_invalid(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    authorizer = Authorizer(Settings(jwt_key=(KEY,), jwks_url="https://issuer.example/jwks"))
    monkeypatch.setattr("webapp.auth.jwks.JwksClient.keys_for", unavailable)
    with pytest.raises(ServiceUnavailable):
        authorizer.subscribe((encode(OTHER), encode(exp=1)), in_cookies=True)
    assert authorizer.subscribe((encode(OTHER), encode(sub="ann"))).subject == "ann"


def unavailable(*_: object) -> NoReturn:
    detail, remedy = "It does not answer.", "Wait."
    raise ServiceUnavailable(detail, remedy)


@pytest.mark.parametrize(
    ("token", "why"), [(encode(exp=1), "expired"), (encode(), "revoked"), ("junk", "invalid")]
)
def test_a_cookie_that_is_not_valid_counts_as_none_and_says_why(token: str, why: str) -> None:
    authorizer = Authorizer(Settings(jwt_key=(KEY,)), is_revoked=lambda _: True)
    grant = authorizer.subscribe((token,), in_cookies=True)
    assert (grant.subscribe, grant.token_use()) == (frozenset(), {"token": "ignored", "why": why})
    closed = Authorizer(Settings(jwt_key=(KEY,), anonymous=False), is_revoked=lambda _: True)
    for refusing, in_cookies in ((authorizer, False), (closed, True)):
        with pytest.raises(Unauthorized):
            refusing.subscribe((token,), in_cookies=in_cookies)


def test_a_token_without_the_claim_grants_what_no_token_does() -> None:
    authorizer, token = Authorizer(Settings(jwt_key=(KEY,))), jwt.encode({"sub": "ann"}, KEY)
    grant = authorizer.subscribe((token,))
    assert (grant.subscribe, grant.token_use()) == (frozenset(), {"token": "used"})
    closed = Authorizer(Settings(jwt_key=(KEY,), anonymous=False))
    for action in (authorizer.publish, closed.subscribe, closed.publish):
        with pytest.raises(InsufficientScope, match="mercure"):
            action((token,))


LETTERS = [
    ("/users/joe@example.com", True),
    ("/users/a:b", True),
    ("/users/a/b", True),
    ("/users/jürgen", True),
    ("/users/a b", True),
    ("/rooms/joe@example.com", False),
    ("/rooms/7", False),
]


@pytest.mark.parametrize(("topic", "by_letters"), LETTERS)
def test_a_refusal_says_which_letters_a_variable_stands_for(topic: str, by_letters: bool) -> None:  # noqa: FBT001 - a parameter
    grant = Grant(publish=frozenset({"/users/{id}", "news"}))
    with pytest.raises(InsufficientScope) as refused:
        Authorizer(Settings(jwt_key=(KEY,))).check_topics(grant, [Draft(topics=(topic,), data="")])
    assert ("{+id}" in refused.value.remedy) == by_letters
    assert "mercure.publish" in refused.value.detail
    assert 'error="insufficient_scope"' in refused.value.headers["WWW-Authenticate"]


def test_without_a_token_a_challenge_has_no_error() -> None:
    with pytest.raises(Unauthorized) as refused:
        Authorizer(Settings(jwt_key=(KEY,))).publish(())
    assert refused.value.headers == {"WWW-Authenticate": 'Bearer realm="tidings"'}


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
    assert authorizer.publish((token,)) is authorizer.publish((token,))
    assert authorizer.subscribe((token,)) is authorizer.subscribe((token,))
    assert decoded == [token, token]


def test_a_token_of_a_publisher_stays_refused_for_subscribing() -> None:
    authorizer = Authorizer(Settings(publisher_jwt_key=(KEY,), subscriber_jwt_key=(OTHER,)))
    token = encode()
    assert authorizer.publish((token,))
    with pytest.raises(Unauthorized):
        authorizer.subscribe((token,))


def test_a_verified_token_is_verified_again_when_it_expires(
    decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    authorizer, token = Authorizer(Settings(jwt_key=(KEY,))), encode(exp=1 << 33)
    authorizer.publish((token,))
    monkeypatch.setattr(module, "time", lambda: 1 << 33)
    authorizer.publish((token,))
    assert decoded == [token, token]


def test_a_verified_token_can_be_revoked() -> None:
    revoked: list[Grant] = []
    authorizer = Authorizer(Settings(jwt_key=(KEY,)), revoked.__contains__)
    revoked.append(authorizer.publish((encode(),)))
    with pytest.raises(Unauthorized, match="revoked"):
        authorizer.publish((encode(),))


def test_only_some_verified_tokens_are_remembered() -> None:
    authorizer = Authorizer(Settings(jwt_key=(KEY,)))
    for number in range(600):
        authorizer.publish((encode(sub=str(number)),))
        with pytest.raises(Unauthorized):
            authorizer.publish((encode(OTHER, sub=str(number)),))
    assert 0 < len(authorizer._verified_grants) <= 256
    with pytest.raises(Forbidden):
        authorizer.publish((encode(mercure={"subscribe": ["*"]}),))
