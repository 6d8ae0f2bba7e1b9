"""A stream, read byte by byte."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from webapp.core import sse

if TYPE_CHECKING:
    from collections.abc import Iterator
    from http.client import HTTPConnection, HTTPResponse


class Stream:
    """A subscriber that sees every byte: hub.open, hub.* and heartbeats too. It decodes gzip."""

    def __init__(self, response: HTTPResponse, connection: HTTPConnection) -> None:
        self.response = response
        self.headers = response.headers
        self.raw = b""
        self.ids: list[str] = []
        self._connection = connection
        self._messages = sse.decode(self._chunks())

    def _chunks(self) -> Iterator[bytes]:
        compressed = self.headers["Content-Encoding"] == "gzip"
        decoder = zlib.decompressobj(31) if compressed else None
        while chunk := self.response.read1(1 << 16):
            plain = decoder.decompress(chunk) if decoder else chunk
            self.raw += plain
            yield plain

    def next(self) -> sse.ServerSentEvent:
        """Return the next message, the hub's own included."""
        message = next(self._messages)
        self.ids.append(message.id)
        return message

    def take(self, count: int) -> list[str]:
        """Return the data of the next published messages."""
        return [message.data for message in self.messages(count)]

    def messages(self, count: int) -> list[sse.ServerSentEvent]:
        """Return the next published messages."""
        found: list[sse.ServerSentEvent] = []
        while len(found) < count:
            message = self.next()
            if not message.type.startswith("hub."):
                found.append(message)
        return found

    def rest(self) -> list[sse.ServerSentEvent]:
        """Return all messages up to the end of the body, which must be a complete one."""
        return list(self._messages)

    def close(self) -> None:
        """Hang up."""
        self.response.close()
        self._connection.close()
