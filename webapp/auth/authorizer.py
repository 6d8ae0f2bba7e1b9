"""Verify tokens, and decide what they grant.

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
from jwt.exceptions import InvalidJTIError, InvalidSubjectError

from ..core.topics import EVERYTHING, MAX_ENCODINGS, MERCURE_PATH, decoded, granted, is_reserved
from ..errors import Forbidden, Unauthorized
from ..scheduling import RequestSlice
from .claims import read
from .jwks import JwksClient
from .keys import load_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ..config.settings import Settings
    from ..core.events import Draft
    from .keys import Key

logger = logging.getLogger(__name__)

_SEND_ONE = "Send one as Authorization: Bearer TOKEN; `tidings token` makes one."
_SEE_TOKEN = "Correct it; `tidings token TOKEN` shows what a token contains."  # noqa: S105 - advice
_TYPES = {"JWT", "AT+JWT"}
_MAX_VERIFIED = 256  # tokens, each of at most a header's length, that are not verified again
_MAX_LISTED = 20  # topics, and topic patterns, in a refusal
_MALFORMED = (jwt.InvalidTokenError, ValueError, TypeError, OverflowError, RecursionError)
# What each error of PyJWT means, the first that fits.
_CAUSES: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str, str], ...] = (
    (jwt.ExpiredSignatureError, "The token has expired.", "Send a fresh one."),
    (
        jwt.ImmatureSignatureError,
        "The token is not valid yet.",
        "Send it later, or correct the clock of the machine that made it.",
    ),
    (
        (jwt.InvalidAudienceError, jwt.InvalidIssuerError, jwt.MissingRequiredClaimError),
        "The token is for another hub, or by another issuer.",
        "Make one with the aud and iss of TIDINGS_JWT_AUDIENCE and TIDINGS_JWT_ISSUER.",
    ),
    (InvalidSubjectError, "The token's sub is not a string.", _SEE_TOKEN),
    (InvalidJTIError, "The token's jti is not a string.", _SEE_TOKEN),
    (Exception, "The token's exp or nbf is not a number, or its payload not JSON.", _SEE_TOKEN),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a token allows its bearer to do.

    :param publish: selectors of the topics that it may publish to; None: no publishing at all.
    :param subscribe: selectors of the topics whose private events it may see.
    :param expires: Unix seconds at which its streams end (`exp`); None: never.
    :param issued: Unix seconds at which the token was made (`iat`).
    :param subject: whose token it is (`sub`).
    :param token_id: a hash that identifies the token; it cannot be used as one.
    :param payload: JSON about its bearer, for those who may see presence (`mercure.payload`).
    """

    publish: frozenset[str] | None = None
    subscribe: frozenset[str] = frozenset()
    expires: float | None = None
    issued: float | None = None
    subject: str | None = None
    token_id: str | None = None
    payload: Any = None


ANONYMOUS = Grant()
"""The grant of a subscriber without a token."""
_NO_KEY = Grant(publish=frozenset({EVERYTHING}))  # of each publisher, where the hub has no key


class Authorizer:
    """Turns tokens into grants."""

    def __init__(
        self, settings: Settings, is_revoked: Callable[[Grant], bool] = lambda _: False
    ) -> None:
        accepted = settings.jwt_algorithm
        self._publisher_keys = load_keys(settings.publisher_keys, accepted)
        self._subscriber_keys = load_keys(settings.subscriber_keys, accepted)
        self._jwks = JwksClient(settings.jwks_url, accepted) if settings.jwks_url else None
        self._enabled = settings.auth_enabled
        self._subscribers_have_tokens = bool(self._subscriber_keys or self._jwks)
        self._settings = settings
        self._warned = False
        self._verified_grants: dict[tuple[str, bool], Grant] = {}  # by token, and for publishing
        self._is_revoked = is_revoked

    def subscribe(self, token: str | None) -> Grant:
        """Return the grant of a subscriber.

        :raises Unauthorized: the token is not valid, or missing where one is needed.
        :raises ServiceUnavailable: its key is not available at the moment.
        """
        if not self._subscribers_have_tokens or (token is None and self._settings.anonymous):
            return ANONYMOUS
        return self._grant(token, self._subscriber_keys)

    def check_topics(self, grant: Grant, drafts: list[Draft]) -> None:
        """Refuse drafts unless publishing to every topic of each is granted. It yields to the loop.

        :raises Forbidden: a topic is not granted, or a draft is private and the hub has no tokens.
        """
        if not self._subscribers_have_tokens and any(draft.private for draft in drafts):
            detail = "Only subscribers with a token get private events, and this hub has no key."
            raise Forbidden(detail, "Set TIDINGS_JWT_KEY, or leave private out.")
        selectors = grant.publish or frozenset()
        everything = EVERYTHING in selectors
        time_slice, checked = RequestSlice(), set[str]()
        for draft in drafts:
            for topic in draft.topics:
                if topic in checked:
                    continue
                if is_reserved(topic):
                    raise _reserved(topic)
                if not everything and not granted(selectors, topic):
                    detail = "The token does not grant publishing to every topic of the event."
                    remedy = 'Use a token whose mercure.publish matches them, such as ["*"].'
                    raise _not_granted(detail, remedy, draft.topics, selectors)
                checked.add(topic)
                time_slice.checkpoint()

    def publish(self, token: str | None) -> Grant:
        """Return the grant of a publisher; its `publish` is not None.

        :raises Unauthorized: the token is missing or not valid.
        :raises Forbidden: it grants no publishing at all.
        :raises ServiceUnavailable: its key is not available at the moment.
        """
        if not self._enabled:
            return _NO_KEY
        grant = self._grant(token, self._publisher_keys)
        if grant.publish is None:
            detail = "The token grants no publishing."
            raise Forbidden(detail, 'Use a token with mercure.publish, such as ["*"].')
        return grant

    def require_read(self, token: str | None, path: str) -> None:
        """Refuse a client that may not read a path about the hub itself. Without a key, all may.

        :raises Unauthorized: the token is missing or not valid.
        :raises Forbidden: its `mercure.subscribe` does not grant the path.
        :raises ServiceUnavailable: its key is not available at the moment.
        """
        if not self._enabled:
            return
        grant = self._grant(token, self._subscriber_keys or self._publisher_keys).subscribe
        if not granted(grant, path):
            detail = "The token does not grant reading this."
            remedy = f'Use a token whose mercure.subscribe contains "{path}" or "*".'
            raise _not_granted(detail, remedy, [path], grant)

    def require_write(self, token: str | None, path: str) -> None:
        """Refuse a client that may not change what is at a path of the hub itself.

        :raises Unauthorized: the token is missing or not valid.
        :raises Forbidden: its `mercure.publish` does not grant the path.
        :raises ServiceUnavailable: its key is not available at the moment.
        """
        selectors = self.publish(token).publish or frozenset()
        if not granted(selectors, path):
            detail = "The token does not grant changing this."
            remedy = f'Use a token whose mercure.publish contains "{path}" or "*".'
            raise _not_granted(detail, remedy, [path], selectors)

    def decode(self, token: str) -> Grant:
        """Return the grant of a token that is to be revoked. Any key of the hub may have signed it.

        :raises Unauthorized: it is not valid.
        """
        return self._verified(token, [*self._publisher_keys, *self._subscriber_keys])

    def _grant(self, token: str | None, keys: list[Key]) -> Grant:
        if token is None:
            detail = "A token is needed, and the request has none."
            raise Unauthorized(detail, _SEND_ONE)
        grant = self._verify_once(token, keys)
        if self._is_revoked(grant):
            detail = "The token was revoked."
            raise Unauthorized(detail, "Ask its issuer for a new one.")
        self._warn_of_long_life(grant)
        return grant

    def _verify_once(self, token: str, keys: list[Key]) -> Grant:
        """Verify a token, or return its grant if that was done: it takes longer than a publish."""
        known = (token, keys is self._publisher_keys)
        grant = self._verified_grants.get(known)
        if grant is None or (grant.expires is not None and int(grant.expires) <= time()):
            grant = self._verified(token, keys)
            if not self._jwks:  # which may withdraw a key
                if len(self._verified_grants) >= _MAX_VERIFIED:
                    self._verified_grants.clear()
                self._verified_grants[known] = grant
        return grant

    def _warn_of_long_life(self, grant: Grant) -> None:
        """Log once that a revocation of a subject may be forgotten before its tokens expire."""
        if self._warned or not grant.subject:
            return
        if grant.expires is None or grant.expires > time() + self._settings.max_token_age:
            self._warned = True
            logger.warning(
                "a token with a sub is valid for longer than TIDINGS_MAX_TOKEN_AGE, after which a"
                " revocation of its sub is forgotten: give it an earlier exp, or raise the setting"
            )

    def _verified(self, token: str, keys: list[Key]) -> Grant:
        try:
            return Grant(**read(self._claims(token, keys)), token_id=token_id(token))
        except _MALFORMED as error:
            causes = (
                (detail, remedy) for kind, detail, remedy in _CAUSES if isinstance(error, kind)
            )
            raise Unauthorized(*next(causes)) from None

    def _claims(self, token: str, keys: list[Key]) -> dict[str, Any]:
        """Return the claims of a token that one of the keys has signed."""
        header = _header(token)
        algorithm, fits = header.get("alg"), False
        audience = self._settings.jwt_audience
        for key in self._candidates(header.get("kid"), keys):
            if isinstance(algorithm, str) and algorithm in key.algorithms:
                fits = True
                with suppress(jwt.InvalidSignatureError):
                    return jwt.decode(
                        token,
                        key.value,
                        algorithms=[algorithm],
                        audience=audience,
                        issuer=self._settings.jwt_issuer,
                        options={"verify_iat": False, "verify_aud": audience is not None},
                    )
        detail = "None of the hub's keys for this request has signed the token."
        if not fits:
            detail = "None of the hub's keys for this request fits the token's alg and kid."
        raise Unauthorized(detail, "Sign it with the key of the hub, as `tidings token` does.")

    def _candidates(self, id: str | None, keys: list[Key]) -> Iterator[Key]:
        yield from keys
        if self._jwks:
            yield from self._jwks.keys_for(id)


def _header(token: str) -> dict[str, Any]:
    try:
        header = jwt.get_unverified_header(token)
    except _MALFORMED:
        detail = "The token is not a JWT, or its header is not valid."
        raise Unauthorized(detail, _SEND_ONE) from None
    kind = header.get("typ", "JWT")
    if not isinstance(kind, str) or kind.upper() not in _TYPES:
        detail = "The typ in the token's header is not JWT."
        raise Unauthorized(detail, "Send an access token, and not one for another purpose.")
    return header


def _not_granted(
    detail: str, remedy: str, topics: Iterable[str], grant: frozenset[str]
) -> Forbidden:
    asked, granted = sorted(topics)[:_MAX_LISTED], sorted(grant)[:_MAX_LISTED]
    return Forbidden(detail, remedy, asked=asked, granted=granted)


def _reserved(topic: str) -> Forbidden:
    if decoded(topic) is None:
        detail = f"A topic is percent-encoded more than {MAX_ENCODINGS} times over."
        return Forbidden(detail, "Encode it once, or not at all.")
    return Forbidden(f"The topics below {MERCURE_PATH} are the hub's own.", "Choose another topic.")


def token_id(token: str) -> str:
    """Return an id of a token: a hash of its header and payload. The signature is left out because
    the same one can be encoded in several ways.
    """
    return blake2b(token.rpartition(".")[0].encode(), digest_size=16).hexdigest()
