"""Whether a hub with some settings would accept a token, and why not: for `tidings token`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..errors import InsufficientScope, ServiceUnavailable, TidingsError, Unauthorized
from .authorizer import Authorizer
from .claims import read
from .tokens import unsigned_claims

if TYPE_CHECKING:
    from ..config.settings import Settings


class Verdict(NamedTuple):
    """Whether the signature of a token was checked, and why a hub would refuse the token."""

    signature: str
    refusals: list[str]


def verdict(token: str, settings: Settings) -> Verdict:
    """Return what a hub with these settings would say to a token. It may fetch a JWKS.

    Without a key, the claims alone are judged.
    """
    if not settings.auth_enabled:
        try:
            read(unsigned_claims(token, settings))
        except Unauthorized as error:
            return Verdict("not checked without TIDINGS_JWT_KEY", [str(error)])
        return Verdict("not checked without TIDINGS_JWT_KEY", [])
    errors = _errors(token, Authorizer(settings))
    if any(isinstance(error, ServiceUnavailable) for error in errors.values()):
        return Verdict("not checked, as TIDINGS_JWKS_URL does not answer with keys", [])
    texts = {use: str(error) for use, error in errors.items()}
    if len(texts) > 1 and len(set(texts.values())) == 1:
        return Verdict("checked", [texts["publishing"]])
    return Verdict("checked", [f"for {use}: {text}" for use, text in texts.items()])


def _errors(token: str, authorizer: Authorizer) -> dict[str, TidingsError]:
    """Return the refusals by what they refuse. That a token grants no publishing is none."""
    errors: dict[str, TidingsError] = {}
    try:
        authorizer.publish((token,))
    except InsufficientScope:
        pass
    except (Unauthorized, ServiceUnavailable) as error:
        errors["publishing"] = error
    try:
        authorizer.subscribe((token,))
    except (InsufficientScope, Unauthorized, ServiceUnavailable) as error:
        errors["subscribing"] = error
    return errors
