"""Verify tokens, and decide what they grant.

Tokens are JWTs with Mercure's claim, `mercure: {publish: [patterns], subscribe: [patterns]}`,
signed with one of the hub's keys.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from time import time
from typing import TYPE_CHECKING, Any

from ..core.topics import EVERYTHING, grants, is_reserved
from ..errors import Forbidden, InsufficientScope, ServiceUnavailable, Unauthorized
from ..scheduling import RequestSlice
from .claims import read, token_id
from .refusals import SEND_ONE, not_granted, reserved_topic

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..config.settings import Settings
    from ..core.events import Draft
    from .keys import Key
    from .verifier import Verifier

logger = logging.getLogger(__name__)

_PUBLISH, READ = "mercure.publish", "mercure.subscribe"
_MAX_VERIFIED_TOKENS = 256  # tokens, each of at most a header's length, that are not verified again


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a token allows its bearer to do.

    :param publish: patterns of the topics that it may publish to; None: no publishing at all.
    :param subscribe: patterns of the topics whose private events it may see.
    :param expires: Unix seconds at which its streams end (`exp`); None: never.
    :param issued: Unix seconds at which the token was made (`iat`).
    :param subject: whose token it is (`sub`).
    :param token_id: a hash that identifies the token; it cannot be used as one.
    :param payload: JSON about its bearer, for those who may see presence (`mercure.payload`).
    :param has_claim: whether the token has the claim `mercure` at all.
    :param ignored: why the token that the request has counts as none; None: it has none, or a valid
        one.
    """

    publish: frozenset[str] | None = None
    subscribe: frozenset[str] = frozenset()
    expires: float | None = None
    issued: float | None = None
    subject: str | None = None
    token_id: str | None = None
    payload: Any = None
    has_claim: bool = False
    ignored: str | None = None

    def token_use(self) -> dict[str, str]:
        """Return what `hub.open` says about the token of the request."""
        if self.ignored:
            return {"token": "ignored", "why": self.ignored}
        return {"token": "used" if self.token_id else "none"}


ANONYMOUS = Grant()
"""The grant of a subscriber without a token."""
_IGNORED = {why: Grant(ignored=why) for why in ("expired", "revoked", "invalid")}
_NO_KEY = Grant(publish=frozenset({EVERYTHING}))  # of each publisher, where the hub has no key


class Authorizer:
    """Turns tokens into grants."""

    def __init__(
        self, settings: Settings, is_revoked: Callable[[Grant], bool] = lambda _: False
    ) -> None:
        self._verifier = verifier = _verifier(settings)
        self._publisher_keys = verifier.publisher_keys if verifier else []
        self._subscriber_keys = verifier.subscriber_keys if verifier else []
        self._may_lose_keys = verifier is not None and verifier.jwks is not None
        self._subscribers_have_tokens = bool(self._subscriber_keys) or self._may_lose_keys
        self._has_private_grants = self._subscribers_have_tokens
        self._settings = settings
        self._long_life_warned = False
        self._verified_grants: dict[tuple[str, bool], Grant] = {}  # by token, and for publishing
        self._is_revoked = is_revoked

    def subscribe(self, tokens: tuple[str, ...], *, in_cookies: bool = False) -> Grant:
        """Return the grant of a subscriber.

        :param tokens: all that it sent; any valid one counts.
        :param in_cookies: whether a browser has sent them by itself. Where no token is needed, the
            subscriber then counts as one without a token if none is valid.
        :raises Unauthorized: no token is valid, or it is missing where one is needed.
        :raises InsufficientScope: it has no claim `mercure`, and subscribing needs it.
        :raises ServiceUnavailable: its key is not available at the moment.
        """
        anonymous = self._settings.anonymous
        if not self._subscribers_have_tokens or (not tokens and anonymous):
            return ANONYMOUS
        try:
            grant = self._grant(tokens, self._subscriber_keys)
        except Unauthorized as error:
            if not in_cookies or not anonymous:
                raise
            return _IGNORED[error.why or "invalid"]
        if not grant.has_claim and not anonymous:  # a token for another purpose
            detail = "The token has no claim mercure, and this hub lets nobody in without it."
            remedy = 'Use a token with "mercure": {}, or with more in it.'
            raise InsufficientScope(detail, remedy).about(grant.subject)
        return grant

    def check_topics(self, grant: Grant, drafts: list[Draft]) -> None:
        """Refuse drafts unless publishing to every topic of each is granted. It yields to the loop.

        :raises Forbidden: a topic is not granted, or a draft is private and the hub has no tokens.
        """
        if not self._has_private_grants and any(draft.private for draft in drafts):
            detail = "Only subscribers with a token get private events, and this hub has no key."
            raise Forbidden(detail, "Set TIDINGS_JWT_KEY, or leave private out.")
        patterns = grant.publish or frozenset()
        everything = EVERYTHING in patterns
        time_slice, checked = RequestSlice(), set[str]()
        for draft in drafts:
            for topic in draft.topics:
                if topic in checked:
                    continue
                if is_reserved(topic):
                    raise reserved_topic(topic).about(grant.subject)
                if not everything and not grants(patterns, topic):
                    by_login = self._is_by_login(grant)
                    refusal = not_granted(_PUBLISH, draft.topics, patterns, by_login=by_login)
                    raise refusal.about(grant.subject)
                checked.add(topic)
                time_slice.checkpoint()

    def publish(self, tokens: tuple[str, ...]) -> Grant:
        """Return the grant of a publisher; its `publish` is not None.

        :raises Unauthorized: the token is missing or not valid.
        :raises Forbidden: it grants no publishing at all.
        :raises ServiceUnavailable: its key is not available at the moment.
        """
        if not self._verifier:
            return _NO_KEY
        grant = self._grant(tokens, self._publisher_keys)
        if grant.publish is None:
            detail = "The token has no mercure.publish: it grants no publishing."
            remedy = 'Use a token with mercure.publish, such as ["*"].'
            raise InsufficientScope(detail, remedy).about(grant.subject)
        return grant

    def require_read(self, tokens: tuple[str, ...], path: str) -> None:
        """Refuse a client that may not read a path about the hub itself. Without a key, all may.

        :raises Unauthorized: the token is missing or not valid.
        :raises Forbidden: its `mercure.subscribe` does not grant the path.
        :raises ServiceUnavailable: its key is not available at the moment.
        """
        if not self._verifier:
            return
        grant = self._grant(tokens, self._subscriber_keys or self._publisher_keys)
        if not grants(grant.subscribe, path):
            refusal = not_granted(READ, [path], grant.subscribe, own_path=True)
            raise refusal.about(grant.subject)

    def require_write(self, tokens: tuple[str, ...], path: str) -> None:
        """Refuse a client that may not change what is at a path of the hub itself.

        :raises Unauthorized: the token is missing or not valid.
        :raises Forbidden: its `mercure.publish` does not grant the path.
        :raises ServiceUnavailable: its key is not available at the moment.
        """
        grant = self.publish(tokens)
        patterns, by_login = grant.publish or frozenset(), self._is_by_login(grant)
        if not grants(patterns, path):
            refusal = not_granted(_PUBLISH, [path], patterns, own_path=True, by_login=by_login)
            raise refusal.about(grant.subject)

    def _is_by_login(self, _: Grant) -> bool:
        """Return whether an app's login has given the grant, and no token."""
        return False

    def decode(self, token: str) -> Grant:
        """Return the grant of a token that is to be revoked. Any key of the hub may have signed it.

        :raises Unauthorized: it is not valid.
        """
        return self._verify(token, [*self._publisher_keys, *self._subscriber_keys])

    def _grant(self, tokens: tuple[str, ...], keys: list[Key]) -> Grant:
        """Return the grant of the first valid token."""
        if not tokens:
            detail = "A token is needed, and the request has none."
            raise Unauthorized(detail, SEND_ONE, why=None)
        errors: list[Unauthorized | ServiceUnavailable] = []
        for token in tokens:
            try:
                return self._grant_of(token, keys)
            except (Unauthorized, ServiceUnavailable) as error:
                errors.append(error)
        raise max(errors, key=lambda it: it.status)  # one whose key is unavailable may be valid

    def _grant_of(self, token: str, keys: list[Key]) -> Grant:
        """Return the grant of a token that is valid and was not revoked."""
        grant = self._verify_once(token, keys)
        if self._is_revoked(grant):
            detail = "The token was revoked, alone or with all tokens of its sub."
            refusal = Unauthorized(detail, "Ask its issuer for a new one.", why="revoked")
            raise refusal.about(grant.subject)
        self._warn_of_long_life(grant)
        return grant

    def _verify_once(self, token: str, keys: list[Key]) -> Grant:
        """Verify a token, or return its grant if that was done: it takes longer than a publish."""
        known = (token, keys is self._publisher_keys)
        grant = self._verified_grants.get(known)
        if grant is None or (grant.expires is not None and int(grant.expires) <= time()):
            grant = self._verify(token, keys)
            if not self._may_lose_keys:
                if len(self._verified_grants) >= _MAX_VERIFIED_TOKENS:
                    self._verified_grants.clear()
                self._verified_grants[known] = grant
        return grant

    def _warn_of_long_life(self, grant: Grant) -> None:
        """Log once that a revocation of a subject may be forgotten before its tokens expire."""
        if self._long_life_warned or not grant.subject:
            return
        if grant.expires is None or grant.expires > time() + self._settings.max_token_age:
            self._long_life_warned = True
            logger.warning(
                "a token with a sub is valid for longer than TIDINGS_MAX_TOKEN_AGE, after which a"
                " revocation of its sub is forgotten: give it an earlier exp, or raise the setting"
            )

    def _verify(self, token: str, keys: list[Key]) -> Grant:
        if not self._verifier:
            detail = "This hub has no key, so no token is valid."
            raise Unauthorized(detail, "Send none, or set TIDINGS_JWT_KEY.")
        return Grant(**read(self._verifier.claims(token, keys)), token_id=token_id(token))


def _verifier(settings: Settings) -> Verifier | None:
    if not settings.auth_enabled:
        return None
    from .verifier import Verifier  # late: see its docstring

    return Verifier(settings)
