"""What the bearer of a token may publish and read, and until when.

Tokens are JWTs with Mercure's claim, `mercure: {publish: [selectors], subscribe: [selectors]}`,
signed with the shared key (HS256, HS384 or HS512; nothing else is accepted).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jwt

from webapp.errors import Forbidden, Unauthorized
from webapp.topics import EVERYTHING, covers

if TYPE_CHECKING:
    from webapp.events import Draft
    from webapp.settings import Settings

_ALGORITHMS = ["HS256", "HS384", "HS512"]
_SEND_ONE = "Send one as Authorization: Bearer, signed with the hub's TIDINGS_JWT_KEY."


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What its bearer may do.

    :param publish: selectors of the topics it may publish to; None: it may not publish at all.
    :param subscribe: selectors of the topics whose private events it may read.
    :param expires: Unix seconds at which its streams end; None: never.
    """

    publish: frozenset[str] | None = None
    subscribe: frozenset[str] = frozenset()
    expires: float | None = None


class Authority:
    """Turns tokens into grants."""

    def __init__(self, settings: Settings) -> None:
        self._key = settings.jwt_key
        self._anonymous = settings.anonymous

    def reader(self, token: str | None) -> Grant:
        """Return what a reader may read.

        :raises Unauthorized: the token is not valid, or there is none and one is needed.
        """
        if self._key is None or (token is None and self._anonymous):
            return Grant()
        return self._grant(token)

    def check(self, granted: frozenset[str], drafts: list[Draft]) -> None:
        """Refuse drafts that are not granted; every topic needs a grant.

        :raises Forbidden: a topic is not granted, or private where there are no tokens.
        """
        if self._key is None and any(draft.private for draft in drafts):
            detail = "A private event reaches those whose token covers it; this hub has none."
            raise Forbidden(detail, "Set TIDINGS_JWT_KEY, or leave private out.")
        for draft in drafts:
            if not all(covers(granted, (topic,)) for topic in draft.topics):
                detail = "The token does not grant publishing to every topic of the event."
                remedy = "Use a token whose mercure.publish covers them, such as ['*']."
                raise Forbidden(detail, remedy, granted=sorted(granted))

    def publisher(self, token: str | None) -> frozenset[str]:
        """Return the selectors that the token lets its bearer publish to.

        :raises Unauthorized: there is no token, or not a valid one.
        :raises Forbidden: it grants no publishing at all.
        """
        if self._key is None:
            return frozenset({EVERYTHING})
        granted = self._grant(token).publish
        if granted is None:
            detail = "The token grants no publishing."
            raise Forbidden(detail, "Use a token with mercure.publish, such as ['*'].")
        return granted

    def _grant(self, token: str | None) -> Grant:
        if token is None:
            detail = "A token is needed, and the request has none."
            raise Unauthorized(detail, _SEND_ONE)
        try:
            claims = jwt.decode(
                token, self._key, algorithms=_ALGORITHMS, options={"verify_aud": False}
            )
            return _grant_of(claims)
        except jwt.ExpiredSignatureError:
            detail = "The token has expired."
            raise Unauthorized(detail, "Send a fresh one.") from None
        except (jwt.InvalidTokenError, ValueError, TypeError, OverflowError):
            detail = "The token is not valid here."
            raise Unauthorized(detail, _SEND_ONE) from None


def _grant_of(claims: dict[str, Any]) -> Grant:
    mercure = claims.get("mercure")
    if not isinstance(mercure, dict):
        message = "no mercure claim"
        raise ValueError(message)  # noqa: TRY004 - a claim of the wrong form, whatever its type
    publish = mercure.get("publish")
    return Grant(
        publish=None if publish is None else _selectors(publish),
        subscribe=_selectors(mercure.get("subscribe") or []),
        expires=None if claims.get("exp") is None else float(claims["exp"]),
    )


def _selectors(claim: object) -> frozenset[str]:
    if not isinstance(claim, list) or not all(isinstance(item, str) for item in claim):
        message = "a list of selectors is missing"
        raise ValueError(message)
    return frozenset(claim)
