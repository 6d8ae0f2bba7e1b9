"""The console, and what it has in common with the live page."""

from __future__ import annotations

import mimetypes

from flask import Blueprint, Response, request

from ..config import folders
from ..core.topics import MERCURE_PATH
from .credentials import COOKIE
from .page_compression import compress
from .services import current_services
from .static_files import BELOW_ROOT
from .templates import render

bp = Blueprint("pages", __name__)

_IN_REPOSITORY = ".venv/bin/tidings"  # where `make run` installs it
COMMAND = _IN_REPOSITORY if (folders.PACKAGE.parent / _IN_REPOSITORY).exists() else "tidings"
"""How the command is run in the hub's folder."""

# The system's own tables may say otherwise: that .ts is a video, for one.
mimetypes.add_type("text/javascript", ".js")
mimetypes.add_type("text/plain", ".ts")

_HEADERS = {
    # Discovery, as Mercure specifies it. Relative, as all URLs of the pages are: a proxy may serve
    # the hub below a path.
    "Link": f'<{MERCURE_PATH.lstrip("/")}>; rel="mercure"',
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


@bp.get("/console")
def console() -> Response:
    """Return the console. The page needs no token; the data that it fetches does."""
    services = current_services()
    settings = services.settings
    # A cookie may be a token. The page's script cannot see it.
    has_cookie = settings.has_login or any(request.cookies.getlist(COOKIE))
    return page(
        "console.html",
        locked=settings.auth_enabled and not has_cookie,
        visitors_may_subscribe=settings.anonymous,
        has_presence=settings.has_presence,
    )


def page(name: str, **values: object) -> Response:
    """Return a page of the hub.

    :param values: what its template needs beside what all pages have.
    """
    services = current_services()
    text = render(
        name,
        needs_token=services.settings.auth_enabled,
        tidings=COMMAND,
        static=f"{BELOW_ROOT[1:]}/static" if services.is_at_root else "static",
        has_live_page=not services.is_at_root,
        **values,
    )
    response = Response(text, mimetype="text/html")
    response.headers.update(_HEADERS)
    return compress(response)


def set_nosniff(response: Response) -> Response:
    """Forbid browsers to guess a content type: events can hold text that looks like a page."""
    response.headers.add("X-Content-Type-Options", "nosniff")  # cheaper than to replace one
    return response
