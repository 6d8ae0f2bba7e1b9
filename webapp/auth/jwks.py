"""Public keys that a URL publishes as a JWKS (RFC 7517)."""

from __future__ import annotations

import json
import logging
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, build_opener

import gevent
import jwt

from ..core.version import __version__
from ..errors import ServiceUnavailable
from ..loop_thread import Answer, has_gevent
from .keys import Key, algorithms_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from urllib.request import Request

logger = logging.getLogger(__name__)

DEADLINE_S = 10.0
"""Seconds that one fetch may take in all."""
MAX_KEYS = 100
"""Keys of a JWKS that are read; the others are ignored."""
MAX_WAITING_REQUESTS = 50
"""Requests that wait for a fetch at once; others are refused."""
_READ_TIMEOUT_S = 5.0
_MAX_BODY_BYTES = 1 << 20
_MAX_AGE_S = 300  # for which fetched keys are used without another fetch
_MIN_PAUSE_S = 10  # between two fetches
_MAX_ECHO_CHARS = 40  # of an answer that is not a JWKS
_LOG_PAUSE_S = 60  # between two log lines about the same kind of failure


class JwksClient:
    """The keys of a JWKS, fetched again when they are five minutes old, and when a token names an
    unknown key. While the URL fails, the keys of the last fetch are used (stale-if-error).

    One request fetches and the others wait for it (single flight).
    """

    def __init__(self, url: str, accepted: Sequence[str]) -> None:
        self._url = url
        self._accepted = accepted
        self._keys: list[Key] = []
        self._ever_loaded = self._last_failed = False
        self._last_attempt = self._last_success = float("-inf")
        self._fetching = threading.Lock()
        self._waiting = 0
        self._logged: dict[str, float] = {}
        self._logged_counts = (0, 0)

    def keys_for(self, id: str | None) -> list[Key]:
        """Return the keys with an id, or all of them for a token that names none.

        :raises ServiceUnavailable: no fetch has succeeded yet; or the id is unknown and either the
            URL fails, or too many requests wait for a fetch.
        """
        now = time.monotonic()
        if not self._ever_loaded:
            self._wait_for_fetch()
        elif now - self._last_success > _MAX_AGE_S and now - self._last_attempt > _MIN_PAUSE_S:
            # The old keys are used meanwhile, so this request does not wait.
            self._last_attempt = now
            threading.Thread(target=self._fetch_alone, daemon=True).start()
        if not (found := self._matching(id)) and (
            now - self._last_attempt > _MIN_PAUSE_S or self._fetching.locked()
        ):
            self._wait_for_fetch()
            found = self._matching(id)
        if not self._ever_loaded or (self._last_failed and not found):
            raise _unavailable()
        return found

    def _matching(self, id: str | None) -> list[Key]:
        return [key for key in self._keys if id is None or key.id in {None, id}]

    def _wait_for_fetch(self) -> None:
        """Fetch, or wait for the request that does."""
        if self._waiting >= MAX_WAITING_REQUESTS:
            raise _unavailable()
        self._waiting += 1
        try:
            if not self._fetching.acquire(timeout=2 * DEADLINE_S):
                raise _unavailable()
        finally:
            self._waiting -= 1
        try:
            if time.monotonic() - self._last_attempt > _MIN_PAUSE_S:
                self._refresh()
        finally:
            self._fetching.release()

    def _fetch_alone(self) -> None:
        """Fetch, unless another does."""
        if self._fetching.acquire(blocking=False):
            try:
                self._refresh()
            finally:
                self._fetching.release()

    def _refresh(self) -> None:
        self._last_failed = True
        try:
            entries = fetch(self._url)
            found = map(self._key, entries[:MAX_KEYS])
            self._keys = [key for key in found if key and key.algorithms]
            self._log_unused(len(entries), len(self._keys))
        except Exception as error:  # noqa: BLE001 - no answer of the server may break a request
            self._log(error)
        else:
            self._ever_loaded, self._last_failed = True, False
            self._last_success = time.monotonic()
        finally:
            self._last_attempt = time.monotonic()  # its end: a fetch may take as long as a pause

    def _log(self, error: Exception) -> None:
        """Log why there are no keys, once a minute for each kind of failure."""
        kind, now = type(error).__name__, time.monotonic()
        if now - self._logged.get(kind, float("-inf")) > _LOG_PAUSE_S:
            self._logged[kind] = now
            plain = ascii(str(error))[1:-1]  # it may repeat what the server sent
            logger.warning("no keys from TIDINGS_JWKS_URL: %s: %s", kind, plain)

    def _log_unused(self, count: int, used: int) -> None:
        """Log once that not all keys are used."""
        if count > used and (count, used) != self._logged_counts:
            self._logged_counts = (count, used)
            logger.warning(
                "TIDINGS_JWKS_URL has %d keys, and the hub uses %d: of the first %d, those for"
                " signatures of a type that it accepts",
                *(count, used, MAX_KEYS),
            )

    def _key(self, entry: Any) -> Key | None:
        """Return the key of an entry; None: it is of an unknown type or form."""
        try:
            key = jwt.PyJWK.from_dict(entry)
        except (jwt.PyJWTError, ValueError, TypeError, AttributeError, KeyError):
            return None
        if entry.get("use", "sig") != "sig":
            return None
        if not all(isinstance(entry.get(name, ""), str | None) for name in ("alg", "kid")):
            return None
        algorithms = algorithms_of(key.key)
        if "alg" in entry:
            algorithms &= {entry["alg"]}
        if self._accepted:
            algorithms &= set(self._accepted)
        return Key(key.key, algorithms, key.key_id)


def _unavailable() -> ServiceUnavailable:
    detail = "The keys that verify tokens are not available."
    remedy = "Try again; if it fails again, make sure that TIDINGS_JWKS_URL answers with a JWKS."
    return ServiceUnavailable(detail, remedy)


def fetch(url: str) -> list[Any]:
    """Return the entries of the JWKS at a URL, unchecked.

    :raises OSError: it did not answer in time, answered with an error, or redirected elsewhere.
    :raises http.client.HTTPException: its answer is not HTTP, or broke off.
    :raises ValueError: its answer is not a JWKS.
    """
    late = TimeoutError(f"it took longer than {DEADLINE_S:.0f} s")
    if has_gevent():
        with gevent.Timeout(DEADLINE_S, late):
            body, kind = _read(url)
    else:
        call = Answer(lambda: _read(url))
        threading.Thread(target=call.run, daemon=True).start()
        body, kind = call.wait(DEADLINE_S)
    if len(body) > _MAX_BODY_BYTES:
        message = f"it is over {_MAX_BODY_BYTES:,} bytes"
        raise ValueError(message)
    return _entries(body, kind)


def _read(url: str) -> tuple[bytes, str | None]:
    """Return the body at a URL, or a part of it that is too long, and its Content-Type."""
    with _opener.open(url, timeout=_READ_TIMEOUT_S) as answer:
        return answer.read(_MAX_BODY_BYTES + 1), answer.headers.get("Content-Type")


def _entries(body: bytes, kind: str | None) -> list[Any]:
    """Return the list `keys` of a JWKS.

    :param kind: its Content-Type.
    """
    what = "JSON without a list keys"
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document, what = None, "not JSON"
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list):
        begin = body[:_MAX_ECHO_CHARS].decode(errors="replace")
        message = f"the answer is {what}: {kind or 'no Content-Type'}, beginning with {begin!r}"
        raise ValueError(message)  # noqa: TRY004 - the type of a part of the document
    return keys


class _SameOriginRedirects(HTTPRedirectHandler):
    max_redirections = 3

    def redirect_request(  # noqa: PLR0913, PLR0917 - the library's signature
        self,
        req: Request,
        fp: Any,
        code: int,
        msg: str,
        headers: Any,
        newurl: str,
    ) -> Request | None:
        """Follow a redirect within the origin only: another server could have tokens signed by
        anybody accepted.
        """
        if _origin(newurl) != _origin(req.full_url):
            message = "it redirects to another host, port or scheme"
            raise URLError(message)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


_opener = build_opener(_SameOriginRedirects)
# Some firewalls refuse the name of Python's library, and some servers ask for a kind of answer.
_opener.addheaders = [
    ("User-Agent", f"Tidings/{__version__}"),
    ("Accept", "application/jwk-set+json, application/json"),
]
