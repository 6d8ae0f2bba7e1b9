"""Limits of the time and memory for the compression of all streams of a process."""

from __future__ import annotations

from collections import OrderedDict
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from ...core import gzip_format

if TYPE_CHECKING:
    from collections.abc import Callable

_MAX_TAILS_BYTES = 32 << 20  # of all feeds
_FEED_BYTES = 4 << 10  # with a tail
_MAX_SHARE = 0.3  # of the time, spent on compressing; what comes then is stored
_BURST_S = 0.2
_TINY_BYTES = 32  # not compressed


class CompressionTime:
    """How much time a process may spend on compressing. Without it, a client with a thousand feeds
    would have each event compressed a thousand times.

    :param burst_s: how much there is after a time without compressing.
    """

    def __init__(self, burst_s: float = _BURST_S) -> None:
        self._left_s = self._burst_s = burst_s
        self._counted_at = monotonic()

    def deflate(self, plain: bytes, before: bytes, pause: Callable[[], object] = bool) -> bytes:
        """Return `plain` as a part of a gzip stream, compressed while there is time for it."""
        if len(plain) <= _TINY_BYTES:
            return gzip_format.stored(plain)
        began = monotonic()
        earned = (began - self._counted_at) * _MAX_SHARE
        self._left_s = min(self._burst_s, self._left_s + earned)
        self._counted_at = began
        if self._left_s <= 0:
            return gzip_format.stored(plain)

        def count_and_pause() -> None:
            nonlocal began
            self._left_s -= monotonic() - began
            pause()
            began = monotonic()

        part = gzip_format.deflate(plain, before, count_and_pause)
        self._left_s -= monotonic() - began
        return part


class HasTail(Protocol):
    """A feed with a tail, as far as the limit needs it."""

    def drop_tail(self) -> None:
        """Free its memory."""


class Tails:
    """Which feeds have a tail; beyond the limit, the one that was used the longest ago drops it."""

    def __init__(self) -> None:
        self._feeds: OrderedDict[HasTail, None] = OrderedDict()

    def use(self, feed: HasTail) -> None:
        """Count a feed's tail as the newest."""
        self._feeds[feed] = None
        self._feeds.move_to_end(feed)
        while len(self._feeds) > _MAX_TAILS_BYTES // _FEED_BYTES:
            self._feeds.popitem(last=False)[0].drop_tail()

    def discard(self, feed: HasTail) -> None:
        """Stop counting a feed's tail."""
        self._feeds.pop(feed, None)


compression_time, tails = CompressionTime(), Tails()
