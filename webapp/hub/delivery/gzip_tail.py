"""The last plain bytes that all subscribers of a feed were sent. What follows is compressed with
them.

A short tail is kept as it is. A long one is kept compressed, in the form in which it was sent. So
it takes no more memory, and to keep one more payload costs next to nothing.
"""

from __future__ import annotations

import zlib

from ...core import gzip_format
from ...core.gzip_format import DICTIONARY_BYTES, LONG_DICTIONARY_BYTES

_KEPT_BYTES = DICTIONARY_BYTES  # of a long tail, compressed
_RENEWED_BYTES = 2 << 10  # of these, when the tail was compressed once more
_MOST_BYTES = 2 * LONG_DICTIONARY_BYTES  # of a long tail, not compressed
_MIN_RATIO = 2  # of a payload to its compressed form: then it begins a long tail


class GzipTail:
    """The tail of one feed."""

    # There may be thousands.
    __slots__ = ("_is_deflated", "_kept")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Free its memory."""
        self._kept, self._is_deflated = b"", False

    def plain(self) -> bytes:
        """Return its bytes."""
        if self._is_deflated:
            return zlib.decompressobj(-zlib.MAX_WBITS).decompress(self._kept)
        return self._kept

    def add(self, before: bytes, plain: bytes, part: bytes, *, is_long: bool) -> None:
        """Go on with what was sent.

        :param before: the tail before it. It may have been cleared since.
        :param part: the form of `plain` that was compressed with the last bytes of `before`.
        :param is_long: whether the next payload may need more than a short tail has.
        """
        size, kept = len(before) + len(plain), len(self._kept) + len(part)
        if is_long and self._is_deflated and kept <= _KEPT_BYTES and size <= _MOST_BYTES:
            self._kept += part
        elif is_long and (self._is_deflated or len(plain) > _MIN_RATIO * len(part)):
            self._compress((before + plain)[-LONG_DICTIONARY_BYTES:])
        else:
            self._kept, self._is_deflated = (before + plain)[-DICTIONARY_BYTES:], False

    def _compress(self, plain: bytes) -> None:
        """Keep these bytes, or as many of the last ones as there is room for."""
        kept = gzip_format.deflate(plain, b"")
        if len(kept) > _RENEWED_BYTES:
            plain = plain[-(len(plain) * _RENEWED_BYTES // len(kept)) :]
            kept = gzip_format.deflate(plain, b"")
        self._is_deflated = len(kept) <= _KEPT_BYTES
        self._kept = kept if self._is_deflated else plain[-DICTIONARY_BYTES:]
