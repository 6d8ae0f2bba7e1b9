"""A page of the hub: what the console and the live page have in common."""

from __future__ import annotations

import mimetypes

from flask import Response

from ...config import folders
from ...core.topics import MERCURE_PATH
from ..services import current_services
from .page_compression import compress
from .static_files import BELOW_ROOT
from .templates import render

_IN_REPOSITORY = ".venv/bin/tidings"  # where `make run` installs it
COMMAND = _IN_REPOSITORY if (folders.PACKAGE.parent / _IN_REPOSITORY).exists() else "tidings"
"""How to run the command in the hub's folder."""

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
