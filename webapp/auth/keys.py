"""What a token's signature is checked with: keys of the settings, and those that a URL publishes.

A key is good for the algorithms of its type only, whatever a token says of itself.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from ..errors import Misconfigured, ServiceUnavailable
from .jwks import DEADLINE_S, fetch

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

logger = logging.getLogger(__name__)

_HMAC = {"HS256": 32, "HS384": 48, "HS512": 64}  # bytes of a key: RFC 7518, section 3.2
_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_MIN_RSA_BITS = 2048  # RFC 7518, section 3.3
_FRESH = 300  # seconds that published keys are used without a look
_PAUSE = 10  # seconds between two looks, whatever tokens come
_QUIET = 60  # seconds between two lines about one kind of failure
MAX_WAITING = 50
"""Requests that wait for keys at once; others are refused."""


class Key(NamedTuple):
    """A key as PyJWT takes it, and what it may verify."""

    value: Any
    algorithms: frozenset[str]
    id: str | None = None


def fixed(texts: Iterable[str], accepted: Sequence[str]) -> list[Key]:
    """Return the keys of a setting.

    :param accepted: algorithms; none means all that fit.
    :raises Misconfigured: one is none, or fits no algorithm that is accepted.
    """
    found = []
    for text in texts:
        pem = text.startswith("-----BEGIN")
        value = _loaded(text) if pem else text
        algorithms = _algorithms(value) if pem else _hashes(text)
        if accepted:
            algorithms &= set(accepted)
        if not algorithms:
            detail = "A key fits none of the algorithms that are accepted."
            remedy = "Leave TIDINGS_JWT_ALGORITHM out, or use RSA of 2,048 bits, P-256 or Ed25519."
            raise Misconfigured(detail, remedy)
        found.append(Key(value, algorithms))
    return found


class JwksClient:
    """The keys that a URL publishes as a JWKS (RFC 7517): asked for every five minutes, and when
    a token names one that is unknown. While the URL does not answer, those of before are good.
    """

    def __init__(self, url: str, accepted: Sequence[str]) -> None:
        self._url = url
        self._accepted = accepted
        self._keys: list[Key] = []
        self._known = self._failed = False
        self._looked = self._fetched = float("-inf")
        self._looking = threading.Lock()
        self._waiting = 0
        self._logged: dict[str, float] = {}

    def named(self, id: str | None) -> list[Key]:
        """Return the keys that have an id, or all where a token names none.

        :raises Unavailable: they were never to be had so far; or this one is unknown, and the URL
            does not answer, or as many requests as may wait for it.
        """
        now = time.monotonic()
        if not self._known:
            self._wait()
        elif now - self._fetched > _FRESH and now - self._looked > _PAUSE:
            # Nobody waits: the old ones are good meanwhile.
            self._looked = now
            threading.Thread(target=self._look, daemon=True).start()
        if not (found := self._matching(id)) and (
            now - self._looked > _PAUSE or self._looking.locked()
        ):
            self._wait()
            found = self._matching(id)
        if not self._known or (self._failed and not found):
            raise _unavailable()
        return found

    def _matching(self, id: str | None) -> list[Key]:
        return [key for key in self._keys if id is None or key.id in {None, id}]

    def _wait(self) -> None:
        """Look, or wait for the one that looks: not for long, and not with all the world."""
        if self._waiting >= MAX_WAITING:
            raise _unavailable()
        self._waiting += 1
        try:
            if not self._looking.acquire(timeout=2 * DEADLINE_S):
                raise _unavailable()
        finally:
            self._waiting -= 1
        try:
            if time.monotonic() - self._looked > _PAUSE:
                self._refresh()
        finally:
            self._looking.release()

    def _look(self) -> None:
        if self._looking.acquire(blocking=False):
            try:
                self._refresh()
            finally:
                self._looking.release()

    def _refresh(self) -> None:
        self._failed = True
        try:
            entries = fetch(self._url)
            found = [self._key(entry) for entry in entries]
            self._keys = [key for key in found if key and key.algorithms]
        except Exception as error:  # noqa: BLE001 - whatever a server answers, tokens are checked
            self._log(error)
        else:
            self._known, self._failed = True, False
            self._fetched = time.monotonic()
        finally:
            self._looked = time.monotonic()  # from its end on: it may have taken all of its time

    def _log(self, error: Exception) -> None:
        """Write why there are no keys, once a minute for each kind of failure."""
        kind, now = type(error).__name__, time.monotonic()
        if now - self._logged.get(kind, float("-inf")) > _QUIET:
            self._logged[kind] = now
            logger.warning("no keys from TIDINGS_JWKS_URL: %s: %s", kind, error)

    def _key(self, entry: Any) -> Key | None:
        try:
            key = jwt.PyJWK.from_dict(entry)
        except (jwt.PyJWTError, ValueError, TypeError, AttributeError, KeyError):
            return None  # of a type that is not known here; others are good all the same
        if entry.get("use", "sig") != "sig":
            return None
        said = [entry.get(name) for name in ("alg", "kid")]
        if not all(it is None or isinstance(it, str) for it in said):
            return None
        algorithms = _algorithms(key.key)
        if "alg" in entry:
            algorithms &= {entry["alg"]}
        if self._accepted:
            algorithms &= set(self._accepted)
        return Key(key.key, algorithms, key.key_id)


def _unavailable() -> ServiceUnavailable:
    detail = "The keys that tokens are checked with cannot be had."
    return ServiceUnavailable(detail, "See that TIDINGS_JWKS_URL answers.")


def _loaded(pem: str) -> Any:
    try:
        return load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        detail = "A PEM of TIDINGS_JWT_KEY is no public key."
        remedy = "Make it with `openssl pkey -in private.pem -pubout`."
        raise Misconfigured(detail, remedy) from None


def _hashes(secret: str) -> frozenset[str]:
    return frozenset(name for name, size in _HMAC.items() if len(secret.encode()) >= size)


def _algorithms(key: Any) -> frozenset[str]:
    """Return what an asymmetric key verifies; a secret that a URL publishes is none."""
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= _MIN_RSA_BITS:
        return _RSA
    if isinstance(key, ec.EllipticCurvePublicKey):
        return frozenset({_CURVES[key.curve.name]} if key.curve.name in _CURVES else ())
    if isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        return frozenset({"EdDSA"})
    return frozenset()
