"""Compress the pages and their scripts. They are the same for everybody, so their length tells
nothing about an event or a client.
"""

from __future__ import annotations

import gzip
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING

from ..content_coding import accepts_gzip
from ..services import current

if TYPE_CHECKING:
    from flask import Response

_TYPES = ("text/", "image/svg+xml", "application/json")
_MAX_CACHED_FILES = 64


def compress(response: Response) -> Response:
    """Compress the file in a response if it is text and the client accepts gzip."""
    if not (response.mimetype or "").startswith(_TYPES):
        return response
    request, services = current()
    response.vary.add("Accept-Encoding")
    if response.status_code != HTTPStatus.OK or services.settings.compress == "off":
        return response
    if not accepts_gzip(request.environ):
        return response
    response.set_data(_gzip(response.get_data()))
    response.headers["Content-Encoding"] = "gzip"
    if etag := response.get_etag()[0]:
        response.set_etag(etag, weak=True)  # a strong one would stand for other bytes
    return response


@lru_cache(_MAX_CACHED_FILES)
def _gzip(text: bytes) -> bytes:
    return gzip.compress(text, mtime=0)
