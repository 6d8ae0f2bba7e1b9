"""The pages that people look at."""

from __future__ import annotations

import mimetypes

from flask import Blueprint, Response, make_response, render_template, request

from ..core.topics import MERCURE_PATH

bp = Blueprint("pages", __name__)

# Not what a system's tables say, which may know .ts as a film.
mimetypes.add_type("text/javascript", ".js")
mimetypes.add_type("text/plain", ".ts")

_HEADERS = {
    "Link": f'<{MERCURE_PATH}>; rel="mercure"',  # discovery, as Mercure has it
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
    """Return the live page: what is published, as it comes."""
    return _page("index.html")


@bp.get("/console")
def console() -> Response:
    """Return the console, which holds nothing: what it shows needs a token where there is a key."""
    return _page("console.html")


def _page(name: str) -> Response:
    response = make_response(render_template(name))
    response.headers.update(_HEADERS)
    return response


def set_nosniff(response: Response) -> Response:
    """Let no browser take an answer for more than it says it is: data may look like a page."""
    response.headers["X-Content-Type-Options"] = "nosniff"
    if request.endpoint == "static":  # pages of other origins import the module
        response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    return response
