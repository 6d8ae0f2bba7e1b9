"""Which pages may read and publish: the origins that browsers name, compared exactly."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flask_cors import CORS

from ..errors import Forbidden

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flask import Flask, Request, Response

    from ..config.settings import Settings

_CURSOR_HEADERS = ("Last-Event-ID", "Mercure-Last-Event-ID")
_PREFLIGHT_AGE_S = 86400
_FOREIGN_SITES = {"cross-site", "same-site"}  # Sec-Fetch-Site, from a page of another origin
_DEFAULT_PORTS = {80, 443}
_REMEDY = "Add the page's origin, such as https://example.com, to TIDINGS_PUBLISH_ORIGINS."


def allow_reading(app: Flask, origins: tuple[str, ...]) -> None:
    """Let pages of these origins read the app's answers (CORS).

    :param origins: `*` stands for all, and then no page may use a visitor's cookies.
    """
    app.after_request(_without_credentials)
    CORS(
        app,
        origins=_patterns(origins),
        allow_headers=["Authorization", "Cache-Control", "Content-Type", *_CURSOR_HEADERS],
        expose_headers=["Link", *_CURSOR_HEADERS],
        methods=["GET", "HEAD", "POST", "OPTIONS"],
        supports_credentials="*" not in origins,
        send_wildcard=False,
        max_age=_PREFLIGHT_AGE_S,
    )


def _patterns(origins: Iterable[str]) -> list[str | re.Pattern[str]]:
    """Return origins so that flask-cors compares them exactly: text that looks to it like a regex
    it would match with the beginning of an origin only.
    """
    if "*" in origins:
        return ["*"]
    return [re.compile(re.escape(origin) + r"\Z") for origin in origins]


def _without_credentials(response: Response) -> Response:
    """Refuse cookies to pages of the origin `null`, which a page of any site can have."""
    if response.headers.get("Access-Control-Allow-Origin") == "null":
        response.headers.pop("Access-Control-Allow-Credentials", None)
    return response


def check_cookie(request: Request, allowed: Iterable[str]) -> None:
    """Refuse to publish with a cookie for pages of other origins, or where no origin is named.

    :raises Forbidden: the origin is neither the hub's own nor allowed.
    """
    # Not `request.host_url`: it raises for a Host that is no domain name.
    own = f"{request.scheme}://{request.environ.get('HTTP_HOST', '')}"
    if request.headers.get("Origin", "none") not in {own, *allowed}:
        detail = "Pages of this origin may not publish with a cookie."
        raise Forbidden(detail, _REMEDY)


def check_publisher(request: Request, settings: Settings) -> None:
    """Refuse pages of other origins where publishing needs no token. Browsers send a form or text
    to other origins without a preflight; clients that are not browsers name no origin and pass.

    :raises Forbidden: the origin is neither the hub's own nor allowed.
    """
    environ = request.environ
    origin = environ.get("HTTP_ORIGIN")
    if origin is None:
        foreign = environ.get("HTTP_SEC_FETCH_SITE") in _FOREIGN_SITES
    else:
        foreign = origin not in settings.publish_origins and not _is_own(origin, request, settings)
    if foreign:
        detail = "Pages of other origins may not publish to this hub, which has no key."
        raise Forbidden(detail, _REMEDY)


def _is_own(origin: str, request: Request, settings: Settings) -> bool:
    # The scheme is not compared: behind a proxy that ends TLS it differs.
    hosts = [request.environ.get("HTTP_HOST", "")]
    if settings.trusted_proxies:  # a page of another origin cannot send this without a preflight
        hosts += request.environ.get("HTTP_X_FORWARDED_HOST", "").split(",")
    host = _host_and_port(origin)
    return host is not None and host in {_host_and_port(f"//{name.strip()}") for name in hosts}


def _host_and_port(url: str) -> tuple[str, int | None] | None:
    """Return the host and port of a web URL, None for a default port; None if it has no host."""
    try:
        parts = urlsplit(url)
        port = None if parts.port in _DEFAULT_PORTS else parts.port
    except ValueError:
        return None
    web = parts.scheme in {"", "http", "https"}
    return (parts.hostname, port) if web and parts.hostname else None
