"""Check the claims of a token: each has its type and a bounded size."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from ..core.uri_template import Template
from ..errors import Unauthorized

MAX_SELECTORS = 1000
"""Topics and topic patterns in one list of a token."""
MAX_TEMPLATES = 100
"""URI templates among them: each is matched against every topic; exact topics are looked up."""
MAX_TEXT_CHARS = 1024
"""Characters of a topic or topic pattern, and of `sub`."""
MAX_DEPTH = 32
"""Levels of lists and objects in a payload."""
MAX_PAYLOAD_BYTES = 16 << 10
"""Bytes of a payload as JSON: presence repeats it for each subscription."""


def read(claims: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a grant.

    :raises Unauthorized: a claim is missing, has the wrong type or is too large. The detail says
        which.
    """
    mercure = claims.get("mercure", claims.get("https://mercure.rocks/"))
    if not isinstance(mercure, dict):
        _refuse("The token has no claim mercure that is an object.")
    publish, subscribe = mercure.get("publish"), mercure.get("subscribe")
    return {
        "publish": None if publish is None else _selectors("publish", publish),
        "subscribe": frozenset() if subscribe is None else _selectors("subscribe", subscribe),
        "expires": _timestamp("exp", claims.get("exp")),
        "issued": _timestamp("iat", claims.get("iat")),
        "subject": _subject(claims.get("sub")),
        "payload": _payload(mercure.get("payload")),
    }


def _selectors(name: str, claim: object) -> frozenset[str]:
    if not isinstance(claim, list) or not all(isinstance(text, str) for text in claim):
        _refuse(f'The token\'s mercure.{name} is not a list of strings, such as ["*"].')
    if len(claim) > MAX_SELECTORS or any(len(text) > MAX_TEXT_CHARS for text in claim):
        limits = f"{MAX_SELECTORS:,} entries, or one of over {MAX_TEXT_CHARS:,} characters"
        _refuse(f"The token's mercure.{name} has over {limits}.")
    found = frozenset(claim)
    if len(found) > MAX_TEMPLATES and sum(map(_is_template, found)) > MAX_TEMPLATES:
        _refuse(f"The token's mercure.{name} has over {MAX_TEMPLATES} URI templates.")
    _check_text(f"mercure.{name}", "".join(found))
    return found


def _is_template(text: str) -> bool:
    return "{" in text and Template.parse(text) is not None


def _timestamp(name: str, claim: object) -> float | None:
    if claim is None:
        return None
    if isinstance(claim, bool) or not isinstance(claim, int | float):
        _refuse(f"The token's {name} is not a number.")
    try:
        seconds = float(claim)
    except OverflowError:
        seconds = math.inf
    if not math.isfinite(seconds):
        _refuse(f"The token's {name} is not a time.")
    return seconds


def _subject(claim: object) -> str | None:
    if claim is None:
        return None
    if not isinstance(claim, str) or len(claim) > MAX_TEXT_CHARS:
        _refuse(f"The token's sub is not a string of at most {MAX_TEXT_CHARS:,} characters.")
    _check_text("sub", claim)
    return claim


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
    remedy = "Make one with the claims that docs/guides/authentication.md shows."
    raise Unauthorized(detail, remedy) from None
