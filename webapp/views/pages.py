"""The pages that people look at."""

from __future__ import annotations

from flask import Blueprint, Response, make_response, render_template

bp = Blueprint("pages", __name__)

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


@bp.get("/")
def live() -> Response:
    """Return the live page: what is published, as it comes."""
    response = make_response(render_template("index.html"))
    response.headers.update(_HEADERS)
    return response
