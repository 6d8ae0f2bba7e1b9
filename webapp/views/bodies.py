"""Read the whole body of a request, within bounds."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..errors import (
    BadRequest,
    ContentTooLarge,
    ServiceUnavailable,
    TooManyRequests,
    UnsupportedMediaType,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from flask import Request

MAX_UNFINISHED = 32  # times the largest body: what a worker holds of bodies that still arrive
MAX_SHARE = 4  # one publisher may have this part of it: a quarter
CHUNK_BYTES = 64 << 10
_SMALL_BYTES = 8 << 10  # a body of at most this size does not count as one that still arrives


class BodyBudget:
    """Limits the memory for large bodies, and lines of pipes, that have not arrived completely.

    :param limit: bytes of all together; one publisher has at most a quarter of them.
    """

    def __init__(self, limit: int) -> None:
        self._limit = max(limit, MAX_UNFINISHED * CHUNK_BYTES)
        self._reserved: Counter[str] = Counter()  # bytes by publisher
        self._total = 0

    @contextmanager
    def reservation(self, publisher: str) -> Iterator[Reservation]:
        """Count what one request holds, until the end of the block."""
        reservation = Reservation(self, publisher)
        try:
            yield reservation
        finally:
            reservation.resize(0)

    def change(self, publisher: str, size: int) -> None:
        """Count more bytes of a publisher, or fewer if `size` is negative.

        :raises TooManyRequests: the publisher has used its share.
        :raises ServiceUnavailable: the others leave no room.
        """
        if size > 0:
            self._check(publisher, size)
        self._total += size
        self._reserved[publisher] += size
        if not self._reserved[publisher]:
            del self._reserved[publisher]

    def _check(self, publisher: str, size: int) -> None:
        remedy = "Send it again in a moment."
        if self._reserved[publisher] + size > self._limit // MAX_SHARE:
            detail = "You are sending too many large bodies at once."
            raise TooManyRequests(detail, remedy, wait=1, reason="publisher_bodies")
        if self._total + size > self._limit:
            detail = "Too many large bodies are arriving at once."
            raise ServiceUnavailable(detail, remedy, reason="bodies")


class Reservation:
    """The bytes that one request holds of a `BodyBudget`."""

    def __init__(self, budget: BodyBudget, publisher: str) -> None:
        self._budget = budget
        self._publisher = publisher
        self._size = 0

    def resize(self, size: int) -> None:
        """Hold so many bytes from now on; up to 8 KB are not counted.

        :raises TooManyRequests: the publisher has used its share.
        :raises ServiceUnavailable: the others leave no room.
        """
        size = size if size > _SMALL_BYTES else 0
        if size != self._size:
            self._budget.change(self._publisher, size - self._size)
            self._size = size


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


def read(request: Request, limit: int, budget: BodyBudget, publisher: str) -> bytes:
    """Read the whole body.

    :param publisher: who sends it, as far as the budget is concerned.
    :raises ContentTooLarge: it is over `limit` bytes.
    :raises TooManyRequests: the publisher's share of the budget has no room for it now.
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
        with budget.reservation(publisher) as reservation:
            body = _read_long(source, body, limit, reservation)
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


def _read_long(source: Any, begin: bytes, limit: int, reservation: Reservation) -> bytes:
    """Read the rest of a body, at most a little more than its limit."""
    # One growing block of memory, which goes back to the system: small pieces would not, because
    # events that are kept lie between them.
    body = bytearray(begin)
    while len(body) <= limit:
        reservation.resize(len(body) + CHUNK_BYTES)  # also what arrives slowly is held
        if not (chunk := source.read(CHUNK_BYTES)):
            break
        body += chunk
    return bytes(body)


def _too_large(limit: int) -> ContentTooLarge:
    detail = f"The body is over TIDINGS_MAX_BODY_BYTES, {limit} bytes."
    remedy = "Send less in one request, or stream the events as NDJSON."
    return ContentTooLarge(detail, remedy, reason="body_bytes")
