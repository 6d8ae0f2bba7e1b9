"""A request's body as the app reads it: at once, or as it arrives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gunicorn.http import errors as http_errors
from gunicorn.http.body import ChunkedReader

from ..errors import BadRequest, ContentTooLarge
from .request_bounds import MAX_TRAILERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .connection import ClientConnection


class RequestBody:
    """A request's body; what breaks it becomes a refusal, and it can be read as it arrives."""

    def __init__(self, body: Any, connection: ClientConnection, length: str | None) -> None:
        self.cut = False
        """Whether the hub ended the body, and not its client."""
        self._body = body
        self._connection = connection
        self.length = self._left = int(length) if length is not None else None

    def read(self, size: int | None = None) -> bytes:
        """Read `size` bytes, or all.

        :raises Invalid: the body broke off.
        :raises TimedOut: the body stopped arriving.
        """
        try:
            data: bytes = self._body.read(size)
        except http_errors.LimitRequestHeaders:
            raise _trailers() from None
        except (OSError, http_errors.ParseException):
            raise _broken() from None
        if self._left is not None:
            self._left -= len(data)
            if self._left > 0 and (size is None or len(data) < size):
                raise _broken()
        return data

    def pieces(self, check: Callable[[], object]) -> Iterator[bytes]:
        """Yield the body as it arrives, for as long as it lasts; a stop of the hub ends it.

        gunicorn's own `read` and `readline` would wait until they have what they were asked for.

        :param check: asked now and then while nothing arrives; what it raises ends the body.
        :raises Invalid: the body broke off.
        :raises Unavailable: others need the connection.
        """
        self._connection.live(check)
        reader = self._body.reader
        try:
            if isinstance(reader, ChunkedReader):
                yield from reader.parser or ()
                reader.parser = None
            else:
                yield from self._counted(reader)
        except http_errors.LimitRequestHeaders:
            raise _trailers() from None
        except (OSError, http_errors.ParseException):
            self.cut = self._connection.finishing
            if not self.cut:
                raise _broken() from None

    def _counted(self, reader: Any) -> Iterator[bytes]:
        while reader.length:
            data = reader.unreader.read(None, reader.length)
            if not data:
                raise http_errors.NoMoreData
            piece, beyond = data[: reader.length], data[reader.length :]
            reader.unreader.unread(beyond)  # a next request that came along
            reader.length -= len(piece)
            yield piece


def _broken() -> BadRequest:
    detail = "The body broke off before its end, or its framing is broken."
    return BadRequest(detail, "Send all of it.")


def _trailers() -> ContentTooLarge:
    detail = f"The trailers after the body are over {MAX_TRAILERS} bytes."
    return ContentTooLarge(detail, "Send none; nothing in them is read.", reason="trailers")
