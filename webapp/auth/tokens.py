"""Verify one token: its header, its signature, and only then its claims.

A refusal names a claim only after the signature was right. Otherwise it would say what is in tokens
of others.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import jwt
from jwt.exceptions import InvalidJTIError

from ..errors import Unauthorized
from .claims import SEE_CLAIMS
from .refusals import SEND_ONE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..config.settings import Settings
    from .keys import Key

_TYPES = {"JWT", "AT+JWT"}
MALFORMED = (jwt.InvalidTokenError, ValueError, TypeError, OverflowError, RecursionError)
"""What reading a token may raise."""
# `claims` checks these. PyJWT checks the audience, the issuer and the jti.
_NOT_BY_PYJWT = dict.fromkeys(("verify_iat", "verify_exp", "verify_nbf", "verify_sub"), False)
# What each error of PyJWT means, the first that fits.
_CAUSES: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str, str], ...] = (
    (
        jwt.InvalidIssuerError,
        "The token's iss is not TIDINGS_JWT_ISSUER: it is by another issuer.",
        "Make one with that iss, or correct the setting.",
    ),
    (
        jwt.InvalidAudienceError,
        "The token's aud does not contain TIDINGS_JWT_AUDIENCE: it is for another hub.",
        "Make one with that aud, or correct the setting.",
    ),
    (
        jwt.MissingRequiredClaimError,
        "The token has no {claim}, which this hub needs.",
        "Make one with the aud and iss of TIDINGS_JWT_AUDIENCE and TIDINGS_JWT_ISSUER.",
    ),
    (InvalidJTIError, "The token's jti is not a string.", SEE_CLAIMS),
    (Exception, "The token's payload is not a JSON object.", SEE_CLAIMS),
)


def header(token: str) -> dict[str, Any]:
    """Return the header of a token.

    :raises Unauthorized: it is not that of a JWT. The detail says which member is wrong.
    """
    try:
        found = jwt.get_unverified_header(token)
    except MALFORMED:
        raise _not_a_jwt(token) from None
    kind = found.get("typ", "JWT")
    if not isinstance(kind, str) or kind.upper() not in _TYPES:
        detail = "The typ in the token's header is not JWT."
        raise Unauthorized(detail, "Send an access token, and not one for another purpose.")
    return found


def _not_a_jwt(token: str) -> Unauthorized:
    if token in {"", "undefined", "null", "None"}:  # the variable of a client that has none yet
        detail = f"The request sends {token or 'nothing'} in place of a token."
        return Unauthorized(detail, "Send a token, or leave it out.")
    with suppress(*MALFORMED):
        found = json.loads(jwt.utils.base64url_decode(token.partition(".")[0]))
        if isinstance(found, dict):
            for name in ("kid", "crit"):
                if name in found:
                    detail = f"The {name} in the token's header is not usable here."
                    return Unauthorized(detail, "Make a token whose kid is text, without crit.")
    return Unauthorized("The token is not a JWT, or its header is not valid.", SEND_ONE)


def signed_claims(token: str, algorithm: Any, keys: Iterable[Key], settings: Settings) -> Any:
    """Return the claims of a token that one of the keys has signed.

    :param algorithm: `alg` in the token's header.
    :raises Unauthorized: none has, or the token is for another hub.
    """
    fits = False
    for key in keys:
        if isinstance(algorithm, str) and algorithm in key.algorithms:
            fits = True
            with suppress(jwt.InvalidSignatureError):
                return _decode(token, settings, key=key.value, algorithms=[algorithm])
    detail = "None of the hub's keys for this request has signed the token."
    if not fits:
        detail = "None of the hub's keys for this request fits the token's alg and kid."
    raise Unauthorized(detail, "Sign it with the key of the hub, as `tidings token` does.")


def unsigned_claims(token: str, settings: Settings) -> Any:
    """Return the claims of a token whose signature is not checked: to explain it, not to trust it.

    :raises Unauthorized: it is for another hub, or not a token.
    """
    header(token)
    return _decode(token, settings, options={"verify_signature": False, "verify_jti": True})


def _decode(token: str, settings: Settings, **how: Any) -> Any:
    audience, issuer = settings.jwt_audience, settings.jwt_issuer
    checks = {"verify_aud": audience is not None, "verify_iss": issuer is not None}
    how["options"] = {**_NOT_BY_PYJWT, **checks, **how.get("options", {})}
    try:
        return jwt.decode(token, audience=audience, issuer=issuer, **how)
    except jwt.InvalidSignatureError:
        raise
    except MALFORMED as error:
        causes = ((detail, remedy) for kind, detail, remedy in _CAUSES if isinstance(error, kind))
        detail, remedy = next(causes)
        claim = getattr(error, "claim", "")
        raise Unauthorized(detail.format(claim=claim), remedy) from None
