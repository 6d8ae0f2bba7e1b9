"""What the bearer of a token may publish and read, and until when.

Tokens are JWTs with Mercure's claim, `mercure: {publish: [selectors], subscribe: [selectors]}`,
signed with one of the hub's keys.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from time import time
from typing import TYPE_CHECKING, Any

import jwt

from ..core.topics import EVERYTHING, MAX_ENCODINGS, MERCURE_PATH, decoded, granted, is_reserved
from ..errors import Forbidden, Unauthorized
from ..scheduling import TimeSlice
from .claims import read
from .keys import JwksClient, fixed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ..config.settings import Settings
    from ..core.events import Draft
    from .keys import Key

logger = logging.getLogger(__name__)

_SEND_ONE = "Send one as Authorization: Bearer, signed with a key of the hub."
_TYPES = {"JWT", "AT+JWT"}
_TOLD = 20  # topics and selectors that a refusal names


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What its bearer may do.

    :param publish: selectors of the topics it may publish to; None: it may not publish at all.
    :param subscribe: selectors of the topics whose private events it may read.
    :param expires: Unix seconds at which its streams end; None: never.
    :param issued: Unix seconds at which the token was made, as it says.
    :param subject: whose token it is, as it says (`sub`).
    :param token_id: what tells one token from another, and is none.
    :param payload: what it says about its bearer, for those who may see who listens.
    """

    publish: frozenset[str] | None = None
    subscribe: frozenset[str] = frozenset()
    expires: float | None = None
    issued: float | None = None
    subject: str | None = None
    token_id: str | None = None
    payload: Any = None


ANONYMOUS = Grant()
"""What one without a token may do."""


class Authorizer:
    """Turns tokens into grants."""

    def __init__(self, settings: Settings) -> None:
        accepted = settings.jwt_algorithm
        self._publishers = fixed(settings.publisher_keys, accepted)
        self._subscribers = fixed(settings.subscriber_keys, accepted)
        self._published = JwksClient(settings.jwks_url, accepted) if settings.jwks_url else None
        self._keyed = settings.auth_enabled
        self._private = bool(self._subscribers or self._published)
        self._anonymous = settings.anonymous
        self._audience = settings.jwt_audience
        self._issuer = settings.jwt_issuer
        self._max_age = settings.max_token_age
        self._warned = False
        self.is_revoked: Callable[[Grant], bool] = lambda _: False
        """Whether a token was revoked."""

    def reader(self, token: str | None) -> Grant:
        """Return what a reader may read.

        :raises Unauthorized: the token is not valid, or there is none and one is needed.
        :raises Unavailable: its key cannot be had at the moment.
        """
        if not self._private or (token is None and self._anonymous):
            return ANONYMOUS
        return self._grant(token, self._subscribers)

    def check(self, grant: frozenset[str], drafts: list[Draft]) -> None:
        """Refuse drafts that are not granted; every topic needs a grant. Others run meanwhile.

        :raises Forbidden: a topic is not granted, or private where there are no tokens.
        """
        if not self._private and any(draft.private for draft in drafts):
            detail = "A private event reaches those whose token covers it; this hub has none."
            raise Forbidden(detail, "Set TIDINGS_JWT_KEY, or leave private out.")
        pace, checked = TimeSlice(), set[str]()
        for draft in drafts:
            for topic in draft.topics:
                if topic in checked:
                    continue
                if is_reserved(topic):
                    raise _reserved(topic)
                if not granted(grant, topic):
                    detail = "The token does not grant publishing to every topic of the event."
                    remedy = "Use a token whose mercure.publish covers them, such as ['*']."
                    raise _missing(detail, remedy, draft.topics, grant)
                checked.add(topic)
                pace.checkpoint()

    def publisher(self, token: str | None) -> frozenset[str]:
        """Return the selectors that the token lets its bearer publish to.

        :raises Unauthorized: there is no token, or not a valid one.
        :raises Forbidden: it grants no publishing at all.
        :raises Unavailable: its key cannot be had at the moment.
        """
        if not self._keyed:
            return frozenset({EVERYTHING})
        grant = self._grant(token, self._publishers).publish
        if grant is None:
            detail = "The token grants no publishing."
            raise Forbidden(detail, "Use a token with mercure.publish, such as ['*'].")
        return grant

    def require_read(self, token: str | None, path: str) -> None:
        """Refuse one who may not read what a path tells of the hub itself; without a key all may.

        :raises Unauthorized: there is no valid token.
        :raises Forbidden: what it may read does not cover the path.
        :raises Unavailable: its key cannot be had at the moment.
        """
        if not self._keyed:
            return
        grant = self._grant(token, self._subscribers or self._publishers).subscribe
        if not granted(grant, path):
            detail = "The token does not grant reading this."
            remedy = f"Use a token whose mercure.subscribe names {path}, or is ['*']."
            raise _missing(detail, remedy, [path], grant)

    def require_write(self, token: str | None, path: str) -> None:
        """Refuse one who may not do what a path does to others.

        :raises Unauthorized: there is no valid token.
        :raises Forbidden: what it may publish to does not cover the path.
        """
        grant = self.publisher(token)
        if not granted(grant, path):
            detail = "The token does not grant this."
            remedy = f"Use a token whose mercure.publish names {path}, or is ['*']."
            raise _missing(detail, remedy, [path], grant)

    def known(self, token: str) -> Grant:
        """Return what a token says that somebody else has, whoever may use it for what.

        :raises Unauthorized: it is not valid any more, or never was.
        """
        keys = list({id(key): key for key in (*self._publishers, *self._subscribers)}.values())
        return self._verified(token, keys)

    def _grant(self, token: str | None, keys: list[Key]) -> Grant:
        if token is None:
            detail = "A token is needed, and the request has none."
            raise Unauthorized(detail, _SEND_ONE)
        grant = self._verified(token, keys)
        if self.is_revoked(grant):
            detail = "The token was revoked."
            raise Unauthorized(detail, "Ask whoever gave it for a new one.")
        self._warn(grant)
        return grant

    def _warn(self, grant: Grant) -> None:
        """Say once that a subject has tokens that a revocation of it will not outlast."""
        if self._warned or not grant.subject:
            return
        if grant.expires is None or grant.expires > time() + self._max_age:
            self._warned = True
            logger.warning(
                "a token with a subject lives for longer than TIDINGS_MAX_TOKEN_AGE, after which a"
                " revocation of its subject is forgotten: give it an earlier exp, or raise that"
            )

    def _verified(self, token: str, keys: list[Key]) -> Grant:
        try:
            said = read(self._claims(token, keys))
            return Grant(**said, token_id=token_id(token))
        except jwt.ExpiredSignatureError:
            detail = "The token has expired."
            raise Unauthorized(detail, "Send a fresh one.") from None
        except jwt.ImmatureSignatureError:
            detail = "The token is not valid yet."
            raise Unauthorized(
                detail, "Send it later, or correct the clock it was made by."
            ) from None
        except (jwt.InvalidAudienceError, jwt.InvalidIssuerError, jwt.MissingRequiredClaimError):
            detail = "The token is for another hub, or by another issuer."
            remedy = "Make one with the aud and iss of TIDINGS_JWT_AUDIENCE and TIDINGS_JWT_ISSUER."
            raise Unauthorized(detail, remedy) from None
        except (jwt.InvalidTokenError, ValueError, TypeError, OverflowError, RecursionError):
            detail = "The token is not valid here."
            raise Unauthorized(detail, _SEND_ONE) from None

    def _claims(self, token: str, keys: list[Key]) -> dict[str, Any]:
        """Return what a token says; one of the keys must have signed it."""
        header = jwt.get_unverified_header(token)
        if str(header.get("typ", "JWT")).upper() not in _TYPES:
            message = "a token of another kind"
            raise jwt.InvalidTokenError(message)
        algorithm = header.get("alg")
        for key in self._candidates(header.get("kid"), keys):
            if algorithm in key.algorithms:
                with suppress(jwt.InvalidSignatureError):
                    return jwt.decode(
                        token,
                        key.value,
                        algorithms=[algorithm],
                        audience=self._audience,
                        issuer=self._issuer,
                        options={"verify_iat": False, "verify_aud": self._audience is not None},
                    )
        message = "no key has signed it"
        raise jwt.InvalidTokenError(message)

    def _candidates(self, id: str | None, keys: list[Key]) -> Iterator[Key]:
        yield from keys
        if self._published:
            yield from self._published.named(id)


def _missing(detail: str, remedy: str, topics: Iterable[str], grant: frozenset[str]) -> Forbidden:
    asked, named = sorted(topics)[:_TOLD], sorted(grant)[:_TOLD]
    return Forbidden(detail, remedy, asked=asked, granted=named)


def _reserved(topic: str) -> Forbidden:
    if decoded(topic) is None:
        detail = f"A topic is percent-encoded more than {MAX_ENCODINGS} times over."
        return Forbidden(detail, "Encode it once, or not at all.")
    return Forbidden(f"The topics below {MERCURE_PATH} are the hub's own.", "Choose another topic.")


def token_id(token: str) -> str:
    """Return what tells bearers of valid tokens apart, without keeping their tokens.

    The signature is left out: base64 has many ways to write the same one.
    """
    return blake2b(token.rpartition(".")[0].encode(), digest_size=16).hexdigest()
