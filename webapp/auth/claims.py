"""Check the claims of a token: each has its type and a bounded size."""

from __future__ import annotations

import json
from hashlib import blake2b
from time import time
from typing import Any, NoReturn

from ..core.uri_template import Template
from ..errors import Unauthorized

SEE_CLAIMS = "Make one with the claims that docs/guides/authentication.md shows."
MAX_PATTERNS = 1000
"""Topic patterns in one list of a token."""
MAX_TEMPLATES = 100
"""URI templates among them: each is matched against every topic; exact topics are looked up."""
MAX_TEXT_CHARS = 1024
"""Characters of a topic pattern, and of `sub`."""
MAX_DEPTH = 32
"""Levels of lists and objects in a payload."""
MAX_PAYLOAD_BYTES = 16 << 10
"""Bytes of a payload as JSON: presence repeats it for each subscription."""
LEEWAY_S = 30
"""Seconds by which `nbf` may be ahead of the hub's clock."""
_LAST_TIME_S = 10**11  # Unix seconds in the year 5138; more are milliseconds


def read(claims: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a grant.

    :raises Unauthorized: the token has expired or is not valid yet; or a claim has the wrong type
        or is too large. The detail says which.
    """
    expires = _valid_until(claims)
    mercure = claims.get("mercure", claims.get("https://mercure.rocks/"))
    if mercure is not None and not isinstance(mercure, dict):
        _refuse("The token's mercure is not an object.")
    lists = mercure or {}
    publish, subscribe = lists.get("publish"), lists.get("subscribe")
    return {
        "has_claim": mercure is not None,
        "publish": None if publish is None else _patterns("publish", publish),
        "subscribe": frozenset() if subscribe is None else _patterns("subscribe", subscribe),
        "expires": expires,
        "issued": _timestamp("iat", claims),
        "subject": _subject(claims),
        "payload": _payload(lists.get("payload")),
    }


def _valid_until(claims: dict[str, Any]) -> float | None:
    """Return when the token expires, None: never. It must be valid now."""
    now, begins, expires = time(), _timestamp("nbf", claims), _timestamp("exp", claims)
    if expires is not None and int(expires) <= now:
        detail = f"The token has expired: its exp was {round(now - expires):,} s ago."
        raise Unauthorized(detail, "Send a fresh one.", why="expired")
    if begins is not None and int(begins) > now + LEEWAY_S:
        ahead = f"{round(begins - now):,} s ahead of the hub's clock"
        detail = f"The token is not valid yet: its nbf is {ahead}."
        remedy = "Send it later, or correct the clock of the machine that made it."
        raise Unauthorized(detail, remedy)
    return expires


def _patterns(name: str, claim: object) -> frozenset[str]:
    if not isinstance(claim, list) or not all(isinstance(text, str) for text in claim):
        _refuse(f'The token\'s mercure.{name} is not a list of strings, such as ["*"].')
    if len(claim) > MAX_PATTERNS or any(len(text) > MAX_TEXT_CHARS for text in claim):
        limits = f"{MAX_PATTERNS:,} entries, or one of over {MAX_TEXT_CHARS:,} characters"
        _refuse(f"The token's mercure.{name} has over {limits}.")
    found = frozenset(claim)
    if len(found) > MAX_TEMPLATES and sum(map(_is_template, found)) > MAX_TEMPLATES:
        _refuse(f"The token's mercure.{name} has over {MAX_TEMPLATES} URI templates.")
    _check_text(f"mercure.{name}", "".join(found))
    return found


def _is_template(text: str) -> bool:
    return "{" in text and Template.parse(text) is not None


def _timestamp(name: str, claims: dict[str, Any]) -> float | None:
    if name not in claims:
        return None
    seconds = claims[name]
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        _refuse(f"The token's {name} is not a number.")
    # A comparison with NaN is false.
    if not -_LAST_TIME_S < seconds < _LAST_TIME_S:
        limit = "a time before the year 5000; it counts seconds, not milliseconds"
        _refuse(f"The token's {name} is not {limit}.")
    return float(seconds)


def _subject(claims: dict[str, Any]) -> str | None:
    if "sub" not in claims:
        return None
    subject = claims["sub"]
    if isinstance(subject, int | float) and not isinstance(subject, bool) and subject % 1 == 0:
        subject = str(int(subject))  # the number of a row in the user's database
    if not isinstance(subject, str) or len(subject) > MAX_TEXT_CHARS:
        limit = f"a string of at most {MAX_TEXT_CHARS:,} characters, or a whole number"
        _refuse(f"The token's sub is not {limit}.")
    _check_text("sub", subject)
    return subject


def _payload(claim: object) -> object:
    if claim is None:
        return None
    if _is_deeper_than(claim, MAX_DEPTH):
        _refuse(f"The token's mercure.payload is nested more than {MAX_DEPTH} levels deep.")
    try:
        text = json.dumps(claim, ensure_ascii=False, allow_nan=False)
    except ValueError:
        _refuse("The token's mercure.payload contains NaN or infinity, which are not JSON.")
    _check_text("mercure.payload", text)
    if len(text.encode()) > MAX_PAYLOAD_BYTES:
        _refuse(f"The token's mercure.payload is over {MAX_PAYLOAD_BYTES:,} bytes of JSON.")
    return claim


def _is_deeper_than(value: object, levels: int) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    return isinstance(value, list) and (
        not levels or any(_is_deeper_than(it, levels - 1) for it in value)
    )


def _check_text(name: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        _refuse(f"The token's {name} contains half a surrogate pair, which is not valid Unicode.")


def _refuse(detail: str) -> NoReturn:
    raise Unauthorized(detail, SEE_CLAIMS) from None


def token_id(token: str) -> str:
    """Return an id of a token: a hash of its header and payload. The signature is left out because
    the same one can be encoded in several ways.
    """
    return blake2b(token.rpartition(".")[0].encode(), digest_size=16).hexdigest()
