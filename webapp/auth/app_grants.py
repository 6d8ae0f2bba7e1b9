"""Turns what an app's `authorize` returns into a grant."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import islice
from time import time
from typing import Any, TypeVar

from ..errors import Misconfigured, Unauthorized
from .authorizer import Grant
from .claims import MAX_PATTERNS, read

T = TypeVar("T")

_LISTS = ("publish", "subscribe")
_REMEDY = 'Return "subscribe" and "publish" with lists of topic patterns, or None.'


def ask(authorize: Callable[[T], Any], request: T) -> Grant | None:
    """Return what an app grants to a request; None: the request is anonymous.

    :raises Misconfigured: it returns what is no grant.
    :raises Exception: what it raises to refuse the request, or by a bug.
    """
    found = authorize(request)
    if found is None:
        return None
    grant = _checked(found) if isinstance(found, Grant) else _grant(found)
    # A revocation of its subject has ended older streams. From now on the app decides again.
    return grant if grant.issued else replace(grant, issued=time())


def _checked(grant: Grant) -> Grant:
    for name in _LISTS:
        patterns = getattr(grant, name)
        if patterns is not None and not isinstance(patterns, frozenset):
            detail = f"authorize returned a Grant whose {name} is not a frozenset."
            raise Misconfigured(detail, "Return a frozenset of topic patterns in it.")
    if grant.expires is not None and grant.expires <= time():
        detail = "The app's login has expired."
        raise Unauthorized(detail, "Log in again.", why="expired")
    return grant


def _grant(lists: Any) -> Grant:
    """Return the grant that a mapping describes."""
    if not isinstance(lists, Mapping):
        detail = f"authorize returned a {type(lists).__name__}, and not a mapping."
        raise Misconfigured(detail, _REMEDY)
    if unknown := lists.keys() - {*_LISTS, "payload", "subject"}:
        detail = f"authorize returned {min(map(repr, unknown))}, which no grant has."
        raise Misconfigured(detail, _REMEDY)
    mercure = {name: _patterns(lists[name]) for name in _LISTS if lists.get(name) is not None}
    claims: dict[str, Any] = {"mercure": mercure | {"payload": lists.get("payload")}}
    if lists.get("subject") is not None:
        claims["sub"] = str(lists["subject"])
    try:
        return Grant(**read(claims))
    except Unauthorized as error:
        detail = error.detail.replace("The token's mercure.", "authorize's ")
        raise Misconfigured(
            detail.replace("The token's sub", "authorize's subject"), _REMEDY
        ) from None
    except TypeError as error:  # a payload that is not JSON
        detail = f"authorize's payload is not JSON: {error}."
        raise Misconfigured(detail, _REMEDY) from None


def _patterns(found: Any) -> list[Any]:
    """Return a list of topic patterns, of which too many are refused later."""
    try:
        if not isinstance(found, str | bytes):
            return list(islice(found, MAX_PATTERNS + 1))
    except TypeError:
        pass
    detail = f"authorize returned {found!r:.100}, and not a list of topic patterns."
    raise Misconfigured(detail, _REMEDY)
