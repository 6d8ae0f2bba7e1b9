"""Which pages may read and publish: the origins that browsers name, compared exactly."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flask_cors import CORS

from ..core.escaping import escape
from ..errors import Forbidden

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flask import Blueprint, Flask, Request, Response

    from ..config.settings import Settings

_CURSOR_HEADERS = ("Last-Event-ID", "Mercure-Last-Event-ID")
_PREFLIGHT_AGE_S = 86400
_FOREIGN_SITES = {"cross-site", "same-site"}  # Sec-Fetch-Site, from a page of another origin
_DEFAULT_PORTS = {80, 443}
_BY_COOKIE, _BY_LOGIN = "with a cookie", "with the app's login"
_WITHOUT_KEY = "to this hub, which has no key"
# All but those that proxies write: a page could pretend to be of the hub's own origin.
_ALLOWED_HEADERS = r"(?!x-forwarded-|forwarded\Z)[a-z0-9!#$%&'*+.^_`|~-]{1,100}\Z"
_EXPOSED_HEADERS = ["Allow", "ETag", "Link", "Retry-After", "WWW-Authenticate", *_CURSOR_HEADERS]


def allow_reading(app: Flask | Blueprint, origins: tuple[str, ...]) -> None:
    """Let pages of these origins read the app's answers (CORS).

    :param origins: `*` stands for all, and then no page may use a visitor's cookies.
    """
    app.after_request(_without_credentials)
    CORS(
        app,
        origins=_patterns(origins),
        allow_headers=[_ALLOWED_HEADERS],
        expose_headers=_EXPOSED_HEADERS,
        methods=["GET", "HEAD", "POST", "DELETE", "OPTIONS"],
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
    host = request.environ.get("HTTP_HOST", "")
    own, origin = f"{request.scheme}://{host}", request.headers.get("Origin")
    if origin is None:
        detail = "A request with a cookie publishes only if it has an Origin, as browsers send it."
        raise Forbidden(detail, "Send the token in the header Authorization: Bearer TOKEN.")
    if origin not in {own, *allowed} and not _is_same(origin, own):
        raise _other_page(_BY_COOKIE, origin, own)


def _is_same(origin: str, own: str) -> bool:
    """Return whether both have one scheme and host, and one port or no port."""
    page, hub = _host_and_port(origin), _host_and_port(own)
    return page is not None and page == hub and origin.partition(":")[0] == own.partition(":")[0]


def _other_page(how: str, origin: str | None, own: str) -> Forbidden:
    """Return the refusal of a page, with both origins and the most likely mistake."""
    named = escape(origin) if origin else "other origins"
    detail = f"Pages of {named} may not publish {how}; those of {escape(own)} may."
    remedy = "Add the page's origin, such as https://example.com, to TIDINGS_PUBLISH_ORIGINS."
    page, hub = _host_and_port(origin or ""), _host_and_port(own)
    if page and hub and page == hub:
        proxy = "set TIDINGS_TRUSTED_PROXIES, and let the proxy send X-Forwarded-Proto"
    elif page and hub and page[0] == hub[0]:
        proxy = "let it pass Host on with its port: in nginx, $http_host instead of $host"
    else:
        return Forbidden(detail, remedy)
    return Forbidden(detail, f"If the page is the hub's own, behind a proxy, {proxy}. {remedy}")


def check_publisher(request: Request, settings: Settings) -> None:
    """Refuse pages of other origins where publishing needs no token. Browsers send a form or text
    to other origins without a preflight; clients that are not browsers name no origin and pass.

    :raises Forbidden: the origin is neither the hub's own nor allowed.
    """
    environ = request.environ
    origin = environ.get("HTTP_ORIGIN")
    # A browser compares the schemes, too.
    foreign = environ.get("HTTP_SEC_FETCH_SITE") in _FOREIGN_SITES
    if origin is not None:
        foreign = foreign or not is_own(origin, request, settings)
        foreign = foreign and origin not in settings.publish_origins
    if foreign:
        own = f"{request.scheme}://{environ.get('HTTP_HOST', '')}"
        how = _BY_LOGIN if settings.embedded else _WITHOUT_KEY
        raise _other_page(how, origin, own)


def is_own(origin: str, request: Request, settings: Settings) -> bool:
    """Return whether an origin is that of the hub's own pages."""
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
