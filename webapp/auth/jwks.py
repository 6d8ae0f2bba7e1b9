"""Asks a URL for the keys that it publishes (RFC 7517), and waits for no longer than it may."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, build_opener

import gevent

if TYPE_CHECKING:
    from urllib.request import Request

DEADLINE_S = 10.0
"""Seconds that all of it may take, however little comes at a time."""
MAX_KEYS = 100
"""Keys of a document that are read; others are left out."""
_TIMEOUT_S = 5.0  # without a byte
_MAX_BYTES = 1 << 20


def fetch(url: str) -> list[Any]:
    """Return the entries of the JWKS at a URL, as they are written.

    :raises OSError: it did not answer in time, answered with an error, or redirects elsewhere.
    :raises http.client.HTTPException: what it answered is no HTTP, or broke off.
    :raises ValueError: what it answered is no JWKS.
    """
    late = TimeoutError(f"it took longer than {DEADLINE_S:.0f} s")
    with gevent.Timeout(DEADLINE_S, late), _opener.open(url, timeout=_TIMEOUT_S) as answer:
        body = answer.read(_MAX_BYTES + 1)
    if len(body) > _MAX_BYTES:
        message = f"it is over {_MAX_BYTES:,} bytes"
        raise ValueError(message)
    return _entries(body)


def _entries(body: bytes) -> list[Any]:
    try:
        document = json.loads(body)
    except RecursionError:
        document = None
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list):
        message = "it is no JWKS"
        raise ValueError(message)  # noqa: TRY004 - a document of another form
    return keys[:MAX_KEYS]


class _SameHost(HTTPRedirectHandler):
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
        """Follow within the host, its port and its scheme: whoever answers elsewhere could sign
        tokens.
        """
        if _position(newurl) != _position(req.full_url):
            message = "it redirects to another host, port or scheme"
            raise URLError(message)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _position(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


_opener = build_opener(_SameHost)
