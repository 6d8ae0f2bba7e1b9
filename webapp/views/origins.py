"""Whose pages may read and publish: origins, as browsers name them, compared exactly."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..errors import Forbidden

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flask import Request, Response

    from ..config.settings import Settings

_OTHERS = {"cross-site", "same-site"}  # what Sec-Fetch-Site says of a page of another origin
_DEFAULT_PORTS = {80, 443}
_REMEDY = "Add the page's origin, such as https://example.com, to TIDINGS_PUBLISH_ORIGINS."


def patterns(origins: Iterable[str]) -> list[str | re.Pattern[str]]:
    """Return origins as flask-cors compares them exactly: a text it may take for an expression,
    of which it matches the beginning.
    """
    if "*" in origins:
        return ["*"]
    return [re.compile(re.escape(origin) + r"\Z") for origin in origins]


def without_credentials(response: Response) -> Response:
    """Let no page of the origin `null` read with a visitor's cookies: any site can be one."""
    if response.headers.get("Access-Control-Allow-Origin") == "null":
        response.headers.pop("Access-Control-Allow-Credentials", None)
    return response


def check_cookie(request: Request, allowed: Iterable[str]) -> None:
    """Refuse a cookie's token for pages of another origin, and where none is named.

    :raises Forbidden: the origin is neither the hub's own nor allowed.
    """
    if request.headers.get("Origin", "none") not in {request.host_url.rstrip("/"), *allowed}:
        detail = "A cookie publishes only for pages of an origin that is allowed."
        raise Forbidden(detail, _REMEDY)


def check_publisher(request: Request, settings: Settings) -> None:
    """Refuse pages of other origins where publishing needs no token. A browser sends a form or
    text without asking first; what is no browser names no origin, and passes.

    :raises Forbidden: the origin is neither the hub's own nor allowed.
    """
    environ = request.environ
    origin = environ.get("HTTP_ORIGIN")
    if origin is None:
        foreign = environ.get("HTTP_SEC_FETCH_SITE") in _OTHERS
    else:
        foreign = origin not in settings.publish_origins and not _is_own(origin, request, settings)
    if foreign:
        detail = "A page of another origin may not publish here, where no token is needed."
        raise Forbidden(detail, _REMEDY)


def _is_own(origin: str, request: Request, settings: Settings) -> bool:
    # Not the scheme: a proxy that ends TLS passes on HTTP, and pages of one host are one owner's.
    hosts = [request.environ.get("HTTP_HOST", "")]
    if settings.trusted_proxies:  # no page of another origin can send this header unasked
        hosts += request.environ.get("HTTP_X_FORWARDED_HOST", "").split(",")
    position = _position(origin)
    return position is not None and position in {_position(f"//{host.strip()}") for host in hosts}


def _position(url: str) -> tuple[str, int | None] | None:
    """Return the host and the port of a URL, None for a usual one; None where it has no host."""
    try:
        parts = urlsplit(url)
        port = None if parts.port in _DEFAULT_PORTS else parts.port
    except ValueError:
        return None
    web = parts.scheme in {"", "http", "https"}
    return (parts.hostname, port) if web and parts.hostname else None
