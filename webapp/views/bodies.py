"""Read the whole body of a request, within bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import BadRequest, ContentTooLarge, ServiceUnavailable, UnsupportedMediaType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flask import Request

MAX_UNFINISHED = 32  # times the largest body: what a worker holds of bodies that still arrive
CHUNK_BYTES = 64 << 10
_SMALL_BYTES = 8 << 10  # a body of at most this size does not count as one that still arrives


class BodyBudget:
    """Limits the memory for large bodies that have not arrived completely.

    :param limit: bytes, of all of them together.
    """

    def __init__(self, limit: int) -> None:
        self._limit = max(limit, MAX_UNFINISHED * CHUNK_BYTES)
        self._reserved = 0

    def reserve(self, size: int) -> None:
        """Count bytes before they arrive; `release` must follow.

        :raises ServiceUnavailable: the others leave no room.
        """
        if self._reserved + size > self._limit:
            detail = "Too many large bodies are arriving at once."
            raise ServiceUnavailable(detail, "Send it again in a moment.", reason="bodies")
        self._reserved += size

    def release(self, size: int) -> None:
        """Count bytes no longer."""
        self._reserved -= size


def check_charset(parameters: Mapping[str, str]) -> None:
    """Refuse text that is not UTF-8.

    :param parameters: of a Content-Type.
    :raises UnsupportedMediaType: they name another encoding.
    """
    if parameters.get("charset", "utf-8").lower() not in {"utf-8", "utf8", "ascii", "us-ascii"}:
        detail = "The charset of the body is not UTF-8."
        raise UnsupportedMediaType(detail, "Send the body as UTF-8.")


def check_encoding(request: Request) -> None:
    """Refuse a body that is not plain UTF-8.

    :raises UnsupportedMediaType: its headers name a compression or another encoding.
    """
    check_charset(request.mimetype_params)
    if request.environ.get("HTTP_CONTENT_ENCODING", "identity").lower() != "identity":
        detail = "The body is compressed."
        raise UnsupportedMediaType(detail, "Send it uncompressed, without Content-Encoding.")


def read(request: Request, limit: int, budget: BodyBudget) -> bytes:
    """Read the whole body.

    :raises ContentTooLarge: it is over `limit` bytes.
    :raises ServiceUnavailable: the budget has no room for it now.
    """
    source = request.environ["wsgi.input"]
    if not hasattr(source, "iter_chunks"):
        source = request.stream  # another server's input may not end where the body does
    length = getattr(source, "length", None) or request.content_length
    if length and length > limit:
        raise _too_large(limit)
    most = limit + 1 if length is None else length  # asking for more would cost a second read
    body: bytes = source.read(min(most, _SMALL_BYTES + 1))
    if len(body) > _SMALL_BYTES:
        body = _read_long(source, body, limit, budget)
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
        detail = f"The body is not UTF-8: byte {error.start} is invalid."
        raise BadRequest(detail, "Send UTF-8; encode other data, for example as base64.") from None


def _read_long(source: Any, begin: bytes, limit: int, budget: BodyBudget) -> bytes:
    """Read the rest of a body, at most a little more than its limit."""
    chunks, size, reserved = [begin], len(begin), 0
    try:
        while size <= limit:
            budget.reserve(CHUNK_BYTES)  # first, because a chunk that arrives slowly is held too
            reserved += CHUNK_BYTES
            if not (chunk := source.read(CHUNK_BYTES)):
                break
            chunks.append(chunk)
            size += len(chunk)
    finally:
        budget.release(reserved)
    return b"".join(chunks)


def _too_large(limit: int) -> ContentTooLarge:
    detail = f"The body is over TIDINGS_MAX_BODY_BYTES, {limit} bytes."
    remedy = "Send less in one request, or stream the events as NDJSON."
    return ContentTooLarge(detail, remedy, reason="body_bytes")
