"""How much a request's head, chunks and trailers may be, and how its turn is taken.

gunicorn reads 100 headers of 8 KB each, scans all of them again at every read, and serves requests
that came in one piece one after another.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

from gunicorn.http.body import ChunkedReader
from gunicorn.http.errors import InvalidChunkSize, LimitRequestHeaders
from gunicorn.http.message import Request

from ..errors import BadRequest
from ..scheduling import TimeSlice, yield_to_loop

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

BESIDE = 8 << 10  # bytes of all headers together, beside the longest
MAX_TRAILERS_BYTES = 8 << 10  # bytes
MAX_READ_BYTES = 64 << 10  # bytes of a body that are received at once
_MAX_CHUNK_LINE = 256  # bytes of a chunk's size and extensions
_READ = 8 << 10  # bytes that gunicorn asks for while it reads a head
# A body may come in so many chunks, which cost about the same whatever they hold.
_CHUNKS = 1000
_CHUNK_BYTES = 8
_CHUNKS_A_SECOND = 100
_LOOK_EVERY = 16  # chunks


class BoundedRequest(Request):
    """A request of a connection, whose head is bounded."""

    def parse(self, unreader: Any) -> Any:
        """Read the head.

        :raises LimitRequestHeaders: it is too long.
        """
        if unreader.buf.seek(0, 2):
            yield_to_loop()  # it came along with the one before: others have their turn between
        self._max_headers = self.limit_request_field_size + BESIDE
        # What follows the head may be read with it.
        self.max_buffer_headers = self._max_headers + _READ
        unread = super().parse(unreader)
        self.max_buffer_headers = MAX_TRAILERS_BYTES  # which it bounds from here on
        return unread

    def parse_headers(self, data: Any, from_trailer: bool = False) -> Any:  # noqa: FBT001, FBT002 - gunicorn's signature
        """Return the headers, or trailers.

        :raises LimitRequestHeaders: they are too long together.
        """
        if len(data) > (MAX_TRAILERS_BYTES if from_trailer else self._max_headers):
            message = "all together"
            raise LimitRequestHeaders(message)
        return super().parse_headers(data, from_trailer)

    def _peer_is_trusted_proxy(self) -> bool:
        """Return what was found for the connection's first request."""
        unreader: Any = self.unreader
        if unreader.sock.peer_is_proxy is None:
            unreader.sock.peer_is_proxy = super()._peer_is_trusted_proxy()  # type: ignore[misc] # untyped
        trusted: bool = unreader.sock.peer_is_proxy
        return trusted


class BoundedChunks(ChunkedReader):
    """A chunked body whose framing costs little beside what it carries."""

    def __init__(self, req: Any, unreader: Any) -> None:
        super().__init__(req, unreader)
        pieces: Any = self.parser
        self.parser = self._bounded(pieces)

    def _bounded(self, pieces: Iterator[bytes]) -> Generator[bytes, None, None]:
        """Yield all pieces, and let others run between.

        :raises Invalid: they are too many for what they hold.
        """
        size, began, pace = 0, monotonic(), TimeSlice()
        for count, piece in enumerate(pieces, 1):
            size += len(piece)
            if count % _LOOK_EVERY == 0:
                paid = size / _CHUNK_BYTES + (monotonic() - began) * _CHUNKS_A_SECOND
                if count > _CHUNKS + paid:
                    detail = "The body comes in too many chunks of a few bytes."
                    raise BadRequest(
                        detail, "Send larger ones, a line or more each.", reason="chunks"
                    )
                pace.checkpoint()
            yield piece

    def parse_chunk_size(self, unreader: Any, data: Any = None) -> Any:
        """Read the line before a chunk.

        :raises InvalidChunkSize: it is too long.
        """
        line = bytearray(data or b"")
        while line.find(b"\r\n", 0, _MAX_CHUNK_LINE) < 0:
            if len(line) >= _MAX_CHUNK_LINE:
                raise InvalidChunkSize(bytes(line[:_MAX_CHUNK_LINE]))
            self.read_into(unreader, line)  # type: ignore[attr-defined] # gunicorn 24 and later
        return super().parse_chunk_size(unreader, bytes(line))
