"""Grants for the users of an app that has a hub in it: by the app's own login, or by a token."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from ..core.topics import grants
from ..errors import Forbidden, Unauthorized
from .authorizer import READ, Authorizer, Grant
from .refusals import not_granted

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..config.settings import Settings
    from .keys import Key

_NO_KEY = "This hub is a part of an app, and has no key."


class AppAuthorizer(Authorizer):
    """Turns tokens into grants; and where a request has none, asks the app.

    :param ask: returns what the app grants to the request; None: the request is anonymous.
    :param check_origin: refuses a page of another origin.
    """

    def __init__(
        self,
        settings: Settings,
        is_revoked: Callable[[Grant], bool],
        ask: Callable[[], Grant | None] | None,
        check_origin: Callable[[], None],
    ) -> None:
        super().__init__(settings, is_revoked)
        self._ask = ask or (lambda: None)
        self._check_origin = check_origin
        self._has_private_grants = self._has_private_grants or ask is not None

    def subscribe(self, tokens: tuple[str, ...], *, in_cookies: bool = False) -> Grant:
        """Return the grant of a subscriber; see `Authorizer.subscribe`."""
        if not tokens:
            return self._ask() or self._visitor()
        try:
            by_token = super().subscribe(tokens)
        except Unauthorized as error:
            if grant := self._ask():
                return replace(grant, ignored=error.why or "invalid")
            return super().subscribe(tokens, in_cookies=in_cookies)
        return by_token if by_token.token_id else self._ask() or self._visitor()

    def _visitor(self) -> Grant:
        """Return the grant of who has neither a token nor a login."""
        if not self._settings.anonymous:
            detail = "Only users of the app may subscribe, and nobody is logged in."
            raise Unauthorized(detail, "Log in to the app, or send a token.", why=None)
        return super().subscribe(())

    def publish(self, tokens: tuple[str, ...]) -> Grant:
        """Return the grant of a publisher; its `publish` is not None.

        :raises Forbidden: neither a token nor the app grants it; or the app grants it, and a page
            of another origin asks.
        """
        if self._has_valid(tokens, self._publisher_keys):
            return super().publish(tokens)
        grant = self._ask()
        if grant and grant.publish is not None:
            self._check_origin()
            return grant
        if self._verifier:
            return super().publish(tokens)
        remedy = "Call hub.publish in the app, let its authorize grant publishing, or set a key."
        raise Forbidden(_NO_KEY, remedy)

    def require_read(self, tokens: tuple[str, ...], path: str) -> None:
        """Refuse a client that may not read a path about the hub itself."""
        if self._has_valid(tokens, self._subscriber_keys or self._publisher_keys):
            super().require_read(tokens, path)
        elif not (grant := self._ask()):
            if self._verifier:
                super().require_read(tokens, path)
            remedy = f'Let the app\'s authorize grant "subscribe": ["{path}"], or set a key.'
            raise Forbidden(_NO_KEY, remedy)
        elif not grants(grant.subscribe, path):
            refusal = not_granted(READ, [path], grant.subscribe, own_path=True, by_login=True)
            raise refusal.about(grant.subject)

    def _is_by_login(self, grant: Grant) -> bool:
        """Return whether the app has given the grant, and no token."""
        return grant.token_id is None

    def _has_valid(self, tokens: tuple[str, ...], keys: list[Key]) -> bool:
        """Return whether a token counts. After a logout or an expiry, the app's login does."""
        if not tokens or not self._verifier:
            return False
        with suppress(Unauthorized):
            self._grant(tokens, keys)
            return True
        return False
