"""The live page and the console."""

from __future__ import annotations

import mimetypes

from flask import Blueprint, Response

from ..core.topics import MERCURE_PATH
from .services import current_services
from .templates import render

bp = Blueprint("pages", __name__)

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


@bp.get("/")
def live() -> Response:
    """Return the live page, which shows events as they are published."""
    return _page("index.html")


@bp.get("/console")
def console() -> Response:
    """Return the console. The page needs no token; the data that it fetches does."""
    return _page("console.html")


def _page(name: str) -> Response:
    needs_token = current_services().settings.auth_enabled
    response = Response(render(name, needs_token=needs_token), mimetype="text/html")
    response.headers.update(_HEADERS)
    return response


def set_nosniff(response: Response) -> Response:
    """Forbid browsers to guess a content type: events can hold text that looks like a page."""
    response.headers.add("X-Content-Type-Options", "nosniff")  # cheaper than to replace one
    return response
