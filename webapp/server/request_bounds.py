"""Bounds of a request's header, chunks and trailers, and when reading them yields to the loop.

gunicorn allows 100 headers of 8 KB each, parses all that it has of a header again at every read,
and serves pipelined requests one after another without yielding.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

from gunicorn.http.body import ChunkedReader
from gunicorn.http.errors import InvalidChunkSize, LimitRequestHeaders
from gunicorn.http.message import Request

from ..errors import BadRequest
from ..scheduling import TimeSlice, yield_to_loop
from . import header_lines

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

OTHER_HEADERS_BYTES = 8 << 10  # of all headers together, beside the longest
MAX_TRAILERS_BYTES = 8 << 10
MAX_READ_BYTES = 64 << 10  # of a body, at once
_MAX_CHUNK_LINE_BYTES = 256  # of a chunk's size and extensions
_HEADER_READ_BYTES = 8 << 10  # that gunicorn asks for while it reads a header
# A chunk costs about the same, whatever it holds. So the chunks that a body may have grow with its
# bytes and with the time that it takes.
_FREE_CHUNKS = 1000  # that any body may have
_BYTES_A_CHUNK = 8  # for which it may have one more
_CHUNKS_A_SECOND = 100  # that it may have in addition
_CHECK_EVERY_CHUNKS = 16
_MAX_REMEMBERED_PEERS = 1000

_trusted_peers = dict[str, bool]()  # whether an address is one of a trusted proxy


class BoundedRequest(Request):
    """A request whose header is bounded."""

    _is_last: bool | None = None  # None: not known yet

    def parse(self, unreader: Any) -> Any:
        """Read the header.

        :raises LimitRequestHeaders: it is too long.
        """
        if unreader.buf.seek(0, 2):
            yield_to_loop()  # this request arrived together with the one before
        self._max_headers = self.limit_request_field_size + OTHER_HEADERS_BYTES
        # What follows the header may be read with it.
        self.max_buffer_headers = self._max_headers + _HEADER_READ_BYTES
        unread = super().parse(unreader)
        self.max_buffer_headers = MAX_TRAILERS_BYTES  # from here on it bounds the trailers
        return unread

    def parse_headers(self, data: Any, from_trailer: bool = False) -> Any:  # noqa: FBT001, FBT002 - gunicorn's signature
        """Return the headers, or trailers.

        :raises LimitRequestHeaders: they are too long together.
        """
        if len(data) > (MAX_TRAILERS_BYTES if from_trailer else self._max_headers):
            message = "all together"
            raise LimitRequestHeaders(message)
        if from_trailer:
            return super().parse_headers(data, from_trailer=True)
        return header_lines.parse(data, super().parse_headers, self.cfg)

    def should_close(self) -> bool:
        """Return whether the connection closes after the response. gunicorn asks three times."""
        if self._is_last is None:
            self._is_last = super().should_close()
        return self.must_close or self._is_last

    def _peer_is_trusted_proxy(self) -> bool:
        """Ask gunicorn once for each address, which it parses, and not for each request."""
        peer: Any = self.peer_addr
        address = peer[0] if isinstance(peer, tuple) else ""
        if (found := _trusted_peers.get(address)) is None:
            if len(_trusted_peers) >= _MAX_REMEMBERED_PEERS:
                _trusted_peers.clear()
            found = _trusted_peers[address] = super()._peer_is_trusted_proxy()  # type: ignore[misc] # untyped
        return found


class BoundedChunks(ChunkedReader):
    """A chunked body whose framing costs little beside what it carries."""

    def __init__(self, req: Any, unreader: Any) -> None:
        super().__init__(req, unreader)
        chunks: Any = self.parser
        self.parser = self._bounded(chunks)

    def _bounded(self, chunks: Iterator[bytes]) -> Generator[bytes, None, None]:
        """Yield all chunks, and yield to the loop between them.

        :raises BadRequest: they are too many for what they hold.
        """
        size, began, time_slice = 0, monotonic(), TimeSlice()
        for count, chunk in enumerate(chunks, 1):
            size += len(chunk)
            if count % _CHECK_EVERY_CHUNKS == 0:
                earned = size / _BYTES_A_CHUNK + (monotonic() - began) * _CHUNKS_A_SECOND
                if count > _FREE_CHUNKS + earned:
                    detail = "The body comes in too many chunks of a few bytes."
                    remedy = "Send larger ones, a line or more each."
                    raise BadRequest(detail, remedy, reason="chunks")
                time_slice.checkpoint()
            yield chunk

    def parse_chunk_size(self, unreader: Any, data: Any = None) -> Any:
        """Read the line before a chunk.

        :raises InvalidChunkSize: it is too long.
        """
        line = bytearray(data or b"")
        while line.find(b"\r\n", 0, _MAX_CHUNK_LINE_BYTES) < 0:
            if len(line) >= _MAX_CHUNK_LINE_BYTES:
                raise InvalidChunkSize(bytes(line[:_MAX_CHUNK_LINE_BYTES]))
            self.read_into(unreader, line)  # type: ignore[attr-defined] # gunicorn 24 and later
        return super().parse_chunk_size(unreader, bytes(line))
