"""Verifies tokens with the keys of a hub.

A hub without a key never imports this module: PyJWT and cryptography take a tenth of a worker's
start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .jwks import JwksClient
from .keys import load_keys
from .tokens import header, signed_claims

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..config.settings import Settings
    from .keys import Key


class Verifier:
    """Verifies tokens by the keys that the settings name.

    :raises Misconfigured: a key is not valid, or fits no accepted algorithm.
    """

    def __init__(self, settings: Settings) -> None:
        accepted = settings.jwt_algorithm
        self.publisher_keys = load_keys(settings.publisher_keys, accepted)
        self.subscriber_keys = load_keys(settings.subscriber_keys, accepted)
        self.jwks = JwksClient(settings.jwks_url, accepted) if settings.jwks_url else None
        self._settings = settings

    def claims(self, token: str, keys: list[Key]) -> Any:
        """Return the claims of a token that one of the keys, or one of the JWKS, has signed.

        :raises Unauthorized: none has, or the token is for another hub.
        :raises ServiceUnavailable: its key is not available at the moment.
        """
        found = header(token)
        candidates = self._candidates(found.get("kid"), keys)
        return signed_claims(token, found.get("alg"), candidates, self._settings)

    def _candidates(self, id: str | None, keys: list[Key]) -> Iterator[Key]:
        yield from keys
        if self.jwks:
            yield from self.jwks.keys_for(id)
