"""What a token's claims say, once each is of its type and of a bounded size."""

from __future__ import annotations

import json
import math
from typing import Any

from ..core.topics import Selector
from ..errors import Unauthorized

MAX_SELECTORS = 1000
"""Selectors that one list of a token may have."""
MAX_TEMPLATES = 100
"""URI templates among them: each is tried on every topic, where exact ones are looked up."""
MAX_TEXT = 1024
"""Characters of a selector, and of `sub`."""
MAX_DEPTH = 32
"""Levels of lists and objects in a payload."""
MAX_PAYLOAD = 16 << 10
"""Bytes of a payload as JSON: it is told of each subscription."""


def read(claims: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a grant.

    :raises Unauthorized: a claim is missing, of the wrong type or too large; the detail says which.
    """
    mercure = claims.get("mercure", claims.get("https://mercure.rocks/"))
    if not isinstance(mercure, dict):
        detail = "The token has no claim mercure that is an object."
        raise _refused(detail)
    publish, subscribe = mercure.get("publish"), mercure.get("subscribe")
    return {
        "publish": None if publish is None else _selectors("publish", publish),
        "subscribe": frozenset() if subscribe is None else _selectors("subscribe", subscribe),
        "expires": _moment("exp", claims.get("exp")),
        "issued": _moment("iat", claims.get("iat")),
        "subject": _subject(claims.get("sub")),
        "payload": _payload(mercure.get("payload")),
    }


def _selectors(name: str, claim: object) -> frozenset[str]:
    if not isinstance(claim, list) or not all(isinstance(text, str) for text in claim):
        detail = f"The token's mercure.{name} is no list of strings."
        raise _refused(detail)
    if len(claim) > MAX_SELECTORS or any(len(text) > MAX_TEXT for text in claim):
        limits = f"{MAX_SELECTORS:,} selectors, or one of them over {MAX_TEXT:,} characters"
        detail = f"The token's mercure.{name} has over {limits}."
        raise _refused(detail)
    found = frozenset(claim)
    if len(found) > MAX_TEMPLATES and len([it for it in found if _is_template(it)]) > MAX_TEMPLATES:
        detail = f"The token's mercure.{name} has over {MAX_TEMPLATES} URI templates."
        raise _refused(detail)
    _check_text(f"mercure.{name}", "".join(found))
    return found


def _is_template(text: str) -> bool:
    return "{" in text and Selector(text).exact is None


def _moment(name: str, claim: object) -> float | None:
    if claim is None:
        return None
    if isinstance(claim, bool) or not isinstance(claim, int | float):
        detail = f"The token's {name} is no number."
        raise _refused(detail)
    try:
        moment = float(claim)
    except OverflowError:
        moment = math.inf
    if not math.isfinite(moment):
        detail = f"The token's {name} is no time."
        raise _refused(detail)
    return moment


def _subject(claim: object) -> str | None:
    if claim is None:
        return None
    if not isinstance(claim, str) or len(claim) > MAX_TEXT:
        detail = f"The token's sub is no string of at most {MAX_TEXT:,} characters."
        raise _refused(detail)
    _check_text("sub", claim)
    return claim


def _payload(claim: object) -> object:
    if claim is None:
        return None
    if _is_deep(claim, MAX_DEPTH):
        detail = f"The token's mercure.payload is nested over {MAX_DEPTH} levels deep."
        raise _refused(detail)
    try:
        text = json.dumps(claim, ensure_ascii=False, allow_nan=False)
    except ValueError:
        detail = "The token's mercure.payload holds NaN or infinity, which JSON has not."
        raise _refused(detail) from None
    _check_text("mercure.payload", text)
    if len(text.encode()) > MAX_PAYLOAD:
        detail = f"The token's mercure.payload is over {MAX_PAYLOAD:,} bytes of JSON."
        raise _refused(detail)
    return claim


def _is_deep(value: object, levels: int) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    return isinstance(value, list) and (not levels or any(_is_deep(it, levels - 1) for it in value))


def _check_text(name: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        detail = f"The token's {name} holds half a surrogate pair, which is not text."
        raise _refused(detail) from None


def _refused(detail: str) -> Unauthorized:
    return Unauthorized(detail, "Make one with the claims that the README shows.")
