"""The hub's static files: its pages' scripts and styles, and `tidings.js`."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from flask import Blueprint, send_from_directory

from ...config.folders import PACKAGE
from .page_compression import compress

if TYPE_CHECKING:
    from flask import Response

BELOW_ROOT = "/tidings"
"""The path of the files in an app that has the hub at its root."""

bp = Blueprint("static_files", __name__)
"""For an app that has files of its own at `/static`."""


@bp.get("/static/<path:filename>")
def static_file(filename: str) -> Response:
    """Return a file."""
    return importable(send_from_directory(PACKAGE / "static", filename))


def importable(response: Response) -> Response:
    """Return the response with a file, so that pages of other origins may import it."""
    # At once: a client that reads slowly would keep the file open, beside its connection.
    file: Any = response.response
    with closing(file):
        response.response = [b"".join(file)]
    response.direct_passthrough = False
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    return compress(response)
