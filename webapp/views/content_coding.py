"""Decides whether a response is compressed, by the headers of the request."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..auth.authorizer import Grant
    from ..config.settings import Settings

_CODING = re.compile(r"\s*([^\s;,]+)\s*(?:;\s*q\s*=\s*([0-9.]{1,5}))?\s*", re.IGNORECASE)
# sseclient reads the bytes of its connection, before `requests` has decoded them.
_READS_RAW_BYTES = "python-requests/"


def gzip_wanted(environ: Mapping[str, str], grant: Grant, settings: Settings) -> bool:
    """Return whether to compress the stream of a request.

    :param grant: a subscriber that may see private events is sent compressed bytes only if the
        setting says so: their length tells something about their content (BREACH).
    """
    accepted = environ.get("HTTP_ACCEPT_ENCODING")
    if accepted is None or settings.compress == "off":
        return False
    if settings.compress == "public" and grant.subscribe:
        return False
    if environ.get("HTTP_USER_AGENT", "").startswith(_READS_RAW_BYTES):
        return False
    if accepted == "gzip" and "HTTP_X_VARNISH" in environ:
        return False  # Varnish asks for itself, and would decode it for its client with a delay
    return accepts_gzip(environ)


def accepts_gzip(environ: Mapping[str, str]) -> bool:
    """Return whether a client names gzip, and does not also ask for plain bytes."""
    codings = dict(_codings(environ.get("HTTP_ACCEPT_ENCODING", "")))
    return codings.get("gzip", 0) > 0 and not codings.get("identity")


def coding_headers(gzip: bool, settings: Settings) -> list[tuple[str, str]]:  # noqa: FBT001 - a fact
    """Return the headers of a stream that say whether it is compressed."""
    headers = [] if settings.compress == "off" else [("Vary", "Accept-Encoding")]
    return [*headers, ("Content-Encoding", "gzip")] if gzip else headers


def _codings(header: str) -> list[tuple[str, float]]:
    """Return the codings that a header names, with their weights; without what is not valid."""
    found = (_CODING.fullmatch(item) for item in header.lower().split(","))
    return [(match[1], _weight(match[2])) for match in found if match]


def _weight(text: str | None) -> float:
    try:
        return float(text or 1)
    except ValueError:
        return 0.0
