"""Fuzzers of what needs no server: the wire format, drafts, tokens and patterns."""

from __future__ import annotations

import base64
import json
import re
import sys
import time
from typing import TYPE_CHECKING, Any, TypeVar

import jwt
from flask import Request

from material import SURROGATES, cut, mutate, text
from webapp.auth.authorizer import Authorizer
from webapp.config.settings import Settings
from webapp.core import sse
from webapp.core.events import Draft, Event, EventId
from webapp.core.sse import ServerSentEvent
from webapp.core.topics import TopicPatterns
from webapp.errors import TidingsError
from webapp.views.bodies import json_values
from webapp.views.bodies.drafts import DraftParser

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from types import FrameType

T = TypeVar("T")
SHORT = 8  # letters of a token that may be in a refusal by chance
KEY = "a-key-of-the-fuzzers-that-is-long-enough-for-every-hash-of-the-family"
WORDS = (
    b"\r", b"\n", b"\r\n", b"\n\n", b"\0", b":", b" ", b"data", b"data:", b"id", b"id:\0",
    b"event:", b"retry:", b"retry: 1e3", b"\xef\xbb\xbf", b"\xff", b"\xe2\x80\xa8", b"\xc2\x85",
    b"\xed\xa0\x80", b'"', b"{", b"}", b"[", b"]", b",", b"null", b"1e999", b"-0", b"\\ud800",
    b'"topic":', b'"id":"#"',
)  # fmt: skip


LINES = (
    b"data: x\n",
    b"data: x\r\n",
    b"\n",
    b"\r\r",
    b"id: 7\r",
    b":\n",
    b"event: e\n",
    b"retry: 9\n",
)


def as_read(data: str) -> str:
    return re.sub(r"\r\n|\r", "\n", data)


def streams(rng: random.Random) -> str:
    """Frames are read as they were written, and any bytes as the specification says."""
    if rng.random() < 0.5:
        return written(rng)
    stream = b"".join(rng.choice(LINES + WORDS) for _ in range(rng.randrange(40)))
    pieces = cut(rng, stream)
    found = list(sse.decode(pieces))
    assert found == by_the_book(stream), pieces
    return "messages" if found else "no message"


def written(rng: random.Random) -> str:
    expected, stream, last, retry = [], b"", "", None
    for _ in range(rng.randrange(1, 5)):
        data, type_ = text(rng), one_line(rng)
        id_ = rng.choice([None, one_line(rng)])
        wait = rng.choice([None, rng.randrange(10**6)])
        stream += sse.encode(data, type=type_, id=id_, retry=wait) + sse.HEARTBEAT
        last, retry = last if id_ is None else id_, retry if wait is None else wait
        expected.append(ServerSentEvent(as_read(data), type_ or "message", last, retry))
    pieces = cut(rng, stream)
    assert list(sse.decode(pieces)) == expected, pieces
    return "frames"


def one_line(rng: random.Random) -> str:
    return re.sub(r"[\r\n\0]", "", text(rng))


def by_the_book(stream: bytes) -> list[ServerSentEvent]:
    """Read a whole stream, slowly, as the specification's grammar has it (section 9.2.5)."""
    lines = re.split(r"\r\n|\n|\r", stream.decode("utf-8-sig", "replace"))[:-1]
    found, data, type_, last, retry = [], "", "", "", None
    for line in lines:
        name, value = re.fullmatch(r"([^:]*)(?:: ?(.*))?", line, re.DOTALL).groups("")  # type: ignore[union-attr]
        if not line and data:
            found.append(ServerSentEvent(data[:-1], type_ or "message", last, retry))
        if not line:
            data, type_ = "", ""
        elif name == "data":
            data += value + "\n"
        elif name == "event":
            type_ = value
        elif name == "id" and "\0" not in value:
            last = value
        elif name == "retry" and re.fullmatch("[0-9]+", value):
            retry = int(value)
    return found


def drafts(rng: random.Random) -> str:
    """What is a draft is kept and read as it is; what is none is refused in words."""
    line = json.dumps(event(rng)).encode()
    if rng.random() < 0.3:
        line = mutate(rng, line, WORDS)
    request = Request({"CONTENT_TYPE": "application/x-ndjson"})
    query = rng.choice([{}, {"topic": ["t"]}, {"private": ["1"], "type": ["x"]}])
    parser = DraftParser(request, query, rng.choice(["events", None]))
    draft = attempt(lambda: parser.from_value(json_values.one(line)))
    if isinstance(draft, TidingsError):
        assert draft.status == 400, line
        return "refused"
    assert Draft.from_json(draft.to_json()) == draft, line
    published = Event(EventId(1, 2), draft)
    message = ServerSentEvent(
        as_read(draft.data), draft.type or "message", draft.id or "1-2", draft.retry
    )
    assert list(sse.decode(cut(rng, published.frame))) == [message], line
    [envelope] = sse.decode(cut(rng, published.envelope_frame(draft.topics)))
    assert envelope == message._replace(data=envelope.data), line
    assert json.loads(envelope.data)["data"] == draft.data, line
    assert not any(re.search(r"[\x00-\x1f\x7f-\x9f]", topic) for topic in draft.topics), line
    assert not message.type.startswith("hub."), line
    return "drafts"


def attempt(function: Callable[..., T], *arguments: object) -> T | TidingsError:
    """Return what it returns, or how it refuses; anything else that it raises is a bug."""
    try:
        return function(*arguments)
    except TidingsError as error:
        return error


def event(rng: random.Random) -> dict[str, Any]:
    return {
        name: value(rng) if rng.random() < 0.1 else fitting(rng, name)
        for name in ("topic", "data", "type", "id", "private", "retry", "more")
        if rng.random() < (0.02 if name == "more" else 0.5)
    }


def fitting(rng: random.Random, name: str) -> Any:
    if rng.random() < 0.1 or name == "data":
        return text(rng, 5, SURROGATES if rng.random() < 0.1 else ())
    good = {"private": True, "retry": rng.randrange(10**7), "topic": ["a", "b{c}", "é"]}
    return good.get(name, f"x{rng.randrange(100)} -{name}")


def value(rng: random.Random) -> Any:
    roll = rng.randrange(8)
    if roll == 0:
        return [value(rng) for _ in range(rng.randrange(4))]
    if roll == 1:
        return {text(rng, 3, SURROGATES): value(rng) for _ in range(rng.randrange(4))}
    numbers = [rng.randrange(-5, 10**12), rng.random(), 10**400, 1e308, -0.0, float("nan")]
    return [None, True, False, rng.choice(numbers), text(rng, 5), "a" * 2000][roll - 2]


AUTHORITY = Authorizer(Settings(jwt_key=(KEY,), anonymous=False))
HEADERS: list[dict[str, Any]] = [
    {"alg": "none"}, {"alg": "HS256"}, {"alg": "HS512"}, {"alg": "RS256"}, {"alg": "hs256"},
    {"alg": ""}, {"alg": None}, {"alg": ["HS256"]}, {"alg": "HS256", "b64": False},
    {"alg": "HS256", "crit": ["b64"]}, {"alg": "HS256", "kid": "../../dev/null"},
    {"alg": "HS256", "jku": "http://127.0.0.1:1/"},
    {"alg": "HS256", "jwk": {"kty": "oct", "k": ""}}, {"alg": "HS256", "zip": "DEF"}, {},
]  # fmt: skip


def tokens(rng: random.Random) -> str:
    """A token that was not signed with the key grants nothing, and none is a bug."""
    claims = {name: value(rng) for name in ("exp", "nbf", "aud", "iss") if rng.random() < 0.1}
    claims["mercure"] = value(rng) if rng.random() < 0.2 else mercure(rng)
    said = json.dumps(claims).encode()
    if rng.random() < 0.2:
        said = mutate(rng, said, WORDS)
    signed = jwt.PyJWS().encode(said, KEY, "HS256")
    token = rng.choice([signed, forged(rng, signed), mutated_token(rng, signed)])
    answers = [attempt(ask, (token,)) for ask in (AUTHORITY.subscribe, AUTHORITY.publish)]
    refusals = [it for it in answers if isinstance(it, TidingsError)]
    assert all(it.status in {401, 403} for it in refusals), token
    assert len(token) < SHORT or all(token not in str(it.problem()) for it in refusals), token
    if len(refusals) == len(answers):
        return "refused"
    assert token == signed or meaning(token) == meaning(signed), (token, signed)
    return "granted"


def mercure(rng: random.Random) -> dict[str, Any]:
    names = rng.sample(["publish", "subscribe", "payload"], rng.randrange(4))
    return {it: ["*"] if rng.random() < 0.5 else value(rng) for it in names}


def forged(rng: random.Random, signed: str) -> str:
    _, payload, signature = signed.split(".")
    header = b64(json.dumps(rng.choice(HEADERS)).encode())
    return f"{header}.{payload}.{rng.choice([signature, '', 'AA'])}"


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def mutated_token(rng: random.Random, signed: str) -> str:
    words = (b".", b"=", b"..", b"\xff", b"\n", b" ", b"A" * 5000, b"e30", b"eyJhbGciOiJub25lIn0")
    return mutate(rng, signed.encode(), words).decode("latin-1")


def meaning(token: str) -> list[bytes]:
    """What a token says: base64 spells the same in more than one way."""
    padded = [part + "=" * (-len(part) % 4) for part in token.split(".")]
    return [base64.urlsafe_b64decode(part.encode("latin-1")) for part in padded]


PARTS = (
    "{a}", "{a,b}", "{+a}", "{#a}", "{.a*}", "{/a*}", "{;a,b}", "{?a*,b}", "{&a*}", "{a:3}",
    "{a:9999}", "{", "}", "{}", "{a", "a", "/", "=", "&", "?", ",", "%41", "%C3%A9", "%", "é",
    ".", ";", "x" * 50,
)  # fmt: skip
LONGEST = 1024  # characters of a topic
STEPS = 40  # Python calls for each character of the template, at most
PATIENCE = 0.5  # seconds of this process, for what takes a few milliseconds


def patterns(rng: random.Random) -> str:
    """Matching takes steps for the template's size alone, whatever template and topic are."""
    template = rng.choice(["", "/", "*"]) + repeated(rng)
    topic = (template.replace("{", "").replace("}", "") if rng.random() < 0.3 else repeated(rng))[
        :LONGEST
    ]
    began = time.process_time()
    steps, matches = count_calls(template, topic)
    took = time.process_time() - began
    assert steps <= STEPS * (len(template) + 10), (steps, template, topic)
    assert took < PATIENCE, (took, template, topic)
    return "match" if matches else "no match"


def repeated(rng: random.Random) -> str:
    unit = "".join(rng.choices(PARTS, k=rng.randrange(1, 6)))
    return (unit * rng.choice([1, 2, 10, 100, 1000]))[: 8 * LONGEST] + rng.choice(["", "\n", "x"])


def count_calls(template: str, topic: str) -> tuple[int, bool]:
    """Return how many Python functions reading and matching call, and whether they match."""
    count = 0

    def profile(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(profile)
    try:
        matches = TopicPatterns(frozenset({template})).matches(topic)
    finally:
        sys.setprofile(None)
    return count, matches
