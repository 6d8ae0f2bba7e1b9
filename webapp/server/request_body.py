"""A request's body as the app reads it: all at once, or as it arrives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gunicorn.http import errors as http_errors
from gunicorn.http.body import ChunkedReader

from ..errors import BadRequest, ContentTooLarge
from .request_bounds import MAX_READ_BYTES, MAX_TRAILERS_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .connection import ClientConnection

_READY_BYTES = 4 << 10  # that are received and not read: enough for a piece, whatever frames it


class RequestBody:
    """A request's body. If it breaks off, or its framing is broken, reading raises a refusal.

    :param length: the request's `Content-Length`, if it has one.
    """

    def __init__(self, body: Any, connection: ClientConnection, length: str | None) -> None:
        self._body = body
        self._connection = connection
        self.length = self._left = int(length) if length is not None else None

    def read(self, size: int | None = None) -> bytes:
        """Read `size` bytes, or all.

        :raises BadRequest: the body broke off.
        :raises RequestTimeout: the body stopped arriving.
        """
        try:
            data: bytes = self._body.read(size)
        except http_errors.LimitRequestHeaders:
            raise _trailers_too_long() from None
        except (OSError, http_errors.ParseException):
            raise _broken() from None
        if self._left is not None:
            self._left -= len(data)
            if self._left > 0 and (size is None or len(data) < size):
                raise _broken()
        return data

    def iter_chunks(self, check: Callable[[], object]) -> Iterator[bytes]:
        """Yield the body as it arrives, until its end. Pieces that are there already are joined.

        gunicorn's own `read` and `readline` would wait for as many bytes as they were asked for.

        :param check: called now and then while nothing arrives; what it raises ends the body.
        :raises BadRequest: the body broke off.
        :raises RequestTimeout: nothing arrived for too long.
        :raises ServiceUnavailable: the hub stops, or the connection's file is needed.
        """
        self._connection.mark_streaming(check)
        reader = self._body.reader
        try:
            if isinstance(reader, ChunkedReader):
                yield from self._join(reader.parser or ())
                reader.parser = None
            else:
                yield from self._join(self._iter_sized(reader))
        except http_errors.LimitRequestHeaders:
            raise _trailers_too_long() from None
        except (OSError, http_errors.ParseException):
            raise _broken() from None

    def _join(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the same bytes in fewer pieces, without waiting for any."""
        joined = b""
        for piece in pieces:
            if len(joined) + len(piece) > MAX_READ_BYTES and joined:
                yield joined
                joined = b""
            joined += piece
            if self._ready_bytes() < _READY_BYTES:
                yield joined
                joined = b""
        if joined:
            yield joined

    def _ready_bytes(self) -> int:
        """Return how many bytes have arrived that can be read at once."""
        with_tls = hasattr(self._connection, "cipher")  # they may be a part of a record
        return 0 if with_tls else self._connection.received_bytes()

    def _iter_sized(self, reader: Any) -> Iterator[bytes]:
        while reader.length:
            data = reader.unreader.read(None, reader.length)
            if not data:
                raise http_errors.NoMoreData
            chunk, next_request = data[: reader.length], data[reader.length :]
            reader.unreader.unread(next_request)
            reader.length -= len(chunk)
            yield chunk


def _broken() -> BadRequest:
    detail = "The body broke off before its end, or its framing is broken."
    return BadRequest(detail, "Send all of it.")


def _trailers_too_long() -> ContentTooLarge:
    detail = f"The trailers after the body are over {MAX_TRAILERS_BYTES} bytes."
    return ContentTooLarge(detail, "Send none; nothing in them is read.", reason="trailers")
