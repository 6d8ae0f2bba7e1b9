"""The keys that verify tokens, and which algorithms each may be used for.

A key is used only with the algorithms of its type, whatever a token names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from ..errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_MIN_SECRET_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}  # RFC 7518, section 3.2
_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_MIN_RSA_BITS = 2048  # RFC 7518, section 3.3


class Key(NamedTuple):
    """A key as PyJWT takes it, and the algorithms it may verify."""

    value: Any
    algorithms: frozenset[str]
    id: str | None = None


def load_keys(texts: Iterable[str], accepted: Sequence[str]) -> list[Key]:
    """Return the keys of a setting.

    :param accepted: the algorithms that are accepted; empty: all.
    :raises Misconfigured: a key is not valid, or fits no accepted algorithm.
    """
    found = []
    for text in texts:
        pem = text.startswith("-----BEGIN")
        value = _public_key(text) if pem else text
        algorithms = algorithms_of(value) if pem else _secret_algorithms(text)
        if accepted:
            algorithms &= set(accepted)
        if not algorithms:
            detail = "A key fits none of the algorithms that are accepted."
            remedy = "Leave TIDINGS_JWT_ALGORITHM out, or use RSA of 2,048 bits, P-256 or Ed25519."
            raise Misconfigured(detail, remedy)
        found.append(Key(value, algorithms))
    return found


def algorithms_of(key: Any) -> frozenset[str]:
    """Return the algorithms of a public key's type; none for a secret: a JWKS would publish it."""
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= _MIN_RSA_BITS:
        return _RSA
    if isinstance(key, ec.EllipticCurvePublicKey):
        return frozenset({_CURVES[key.curve.name]} if key.curve.name in _CURVES else ())
    if isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        return frozenset({"EdDSA"})
    return frozenset()


def _public_key(pem: str) -> Any:
    try:
        return load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        detail = "A PEM of TIDINGS_JWT_KEY is not a public key."
        remedy = "Make it with `openssl pkey -in private.pem -pubout`."
        raise Misconfigured(detail, remedy) from None


def _secret_algorithms(secret: str) -> frozenset[str]:
    size = len(secret.encode())
    return frozenset(name for name, least in _MIN_SECRET_BYTES.items() if size >= least)
