"""The body of a compressed stream, decoded as it arrives."""

from __future__ import annotations

import zlib


class GzipBody:
    """A chunked body in gzip. What is fed to it begins with the header of the response."""

    def __init__(self) -> None:
        self._raw = b""
        self._header = True
        self._decoder = zlib.decompressobj(31)

    def feed(self, data: bytes) -> bytes:
        """Return what can be decoded now."""
        self._raw += data
        if self._header:
            _, end, rest = self._raw.partition(b"\r\n\r\n")
            if not end:
                return b""
            self._raw, self._header = rest, False
        plain = b""
        while chunk := self._chunk():
            plain += self._decoder.decompress(chunk)
        return plain

    def _chunk(self) -> bytes:
        """Take the next chunk that has arrived whole."""
        head, end, rest = self._raw.partition(b"\r\n")
        size = int(head, 16) if end else 0
        if not size or len(rest) < size + 2:
            return b""
        self._raw = rest[size + 2 :]
        return rest[:size]
