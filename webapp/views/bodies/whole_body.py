"""Read the whole body of a request, within bounds."""

from __future__ import annotations

from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from typing import TYPE_CHECKING, Any

from ...errors import BadRequest, ContentTooLarge, UnsupportedMediaType

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flask import Request

    from ..quotas import PublisherQuota

SMALL_BYTES = 8 << 10
"""A body of at most this size does not count as one that still arrives."""
_CHUNK_BYTES = 64 << 10


def check_charset(parameters: Mapping[str, str]) -> None:
    """Refuse text that is not UTF-8.

    :param parameters: of a Content-Type.
    :raises UnsupportedMediaType: they name another encoding.
    """
    if parameters.get("charset", "utf-8").lower() not in {"utf-8", "utf8", "ascii", "us-ascii"}:
        detail = "The charset of the body is not UTF-8."
        raise UnsupportedMediaType(detail, "Send it as UTF-8, and name charset=utf-8 or none.")


def check_encoding(request: Request) -> None:
    """Refuse a body that is not plain UTF-8.

    :raises UnsupportedMediaType: its headers name a compression or another encoding.
    """
    check_charset(request.mimetype_params)
    if request.environ.get("HTTP_CONTENT_ENCODING", "identity").lower() != "identity":
        detail = "The body is compressed."
        raise UnsupportedMediaType(detail, "Send it uncompressed, without Content-Encoding.")


def read(request: Request, limit: int, quota: PublisherQuota, publisher: str) -> bytes:
    """Read the whole body.

    :param quota: of the memory for bodies that have not arrived completely.
    :raises ContentTooLarge: it is over `limit` bytes.
    :raises TooManyRequests: the publisher has too many unfinished bodies.
    :raises ServiceUnavailable: all publishers together have.
    """
    source = request.environ["wsgi.input"]
    if not hasattr(source, "iter_chunks"):
        source = request.stream  # another server's input may not end where the body does
    length = getattr(source, "length", None) or request.content_length
    if length and length > limit:
        raise _too_large(limit)
    most = limit + 1 if length is None else length  # asking for more would cost a second read
    body: bytes = source.read(min(most, SMALL_BYTES + 1))
    if len(body) > SMALL_BYTES:
        with quota.share(publisher) as hold:
            body = _read_long(source, body, limit, hold)
    if len(body) > limit:
        raise _too_large(limit)
    return body


def text(body: bytes) -> str:
    """Return UTF-8 as text.

    :raises BadRequest: it is not UTF-8.
    """
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        if body.startswith((BOM_UTF16_BE, BOM_UTF16_LE)):
            detail = "The body begins with the byte order mark of UTF-16."
            raise BadRequest(detail, "Convert it to UTF-8, for example with iconv.") from None
        detail = f"The body is not UTF-8: byte {error.start} is invalid."
        raise BadRequest(detail, "Send UTF-8; encode other data, for example as base64.") from None


def _read_long(source: Any, begin: bytes, limit: int, hold: Callable[[int], None]) -> bytes:
    """Read the rest of a body, at most a little more than its limit."""
    # One growing block of memory, which goes back to the system: small pieces would not, because
    # events that are kept lie between them.
    body = bytearray(begin)
    while len(body) <= limit:
        hold(len(body) + _CHUNK_BYTES)  # also what arrives slowly is held
        if not (chunk := source.read(_CHUNK_BYTES)):
            break
        body += chunk
    return bytes(body)


def _too_large(limit: int) -> ContentTooLarge:
    detail = f"The body is over TIDINGS_MAX_BODY_BYTES, {limit} bytes."
    remedy = "Send less in one request, or stream the events as NDJSON."
    return ContentTooLarge(detail, remedy, reason="body_bytes")
