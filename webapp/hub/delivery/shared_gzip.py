"""One gzip compression for all subscribers of a feed.

A payload is compressed once, by a compressor of its own. The compressor is given the last 3 KB that
the feed's subscribers were sent before: the feed's *tail*. No compressor is kept. So a subscriber
can read the payload if it was sent the same bytes before.

A subscriber joins its feed when it parks. If the last bytes that it was sent are the whole tail, it
is sent the payload that was compressed with the tail. Otherwise it is sent one that was compressed
with a part of the tail that it has, or by itself. A payload has at most three such other forms.

A gzip stream ends with the CRC of all its bytes. The feed keeps the CRC of what it sent to all. Of
a subscriber it keeps only the difference to that, which stays the same while both are sent the same
bytes. See `core.gzip_format.shift_crc`.

At most one payload is sent to all at a time. What one subscriber is sent alone is stored, and the
next payload, too.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, Protocol

from ...core import gzip_format
from ...core.gzip_format import DICTIONARY_BYTES, shift_crc
from ...core.sse import Payload
from .gzip_limits import compression_time, tails

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

_LEAST_BYTES = 64  # of a part of a tail, to compress a payload with it
_LARGE_BYTES = 32 << 10  # of a payload, for which a tail makes next to no difference
_FAR_MORE = 4  # times as many bytes: to compress a payload once more makes it shorter


class Member(Protocol):
    """A subscriber of a feed with gzip, as far as its compression needs it."""

    gzip: Any
    """Its `GzipStream`."""


class GzipStream:
    """The gzip stream of one subscriber, which shares a feed's compression while it is joined."""

    __slots__ = ("crc", "feed", "same_from", "sequence", "size", "tail")

    def __init__(self) -> None:
        self.crc = self.size = 0
        """Of all plain bytes so far. While it is joined: their difference to those of the feed."""
        self.tail = b""
        """The last plain bytes, while it is not joined."""
        self.feed: SharedGzip | None = None
        self.sequence = 0
        """Of the feed's last payload that it was sent, or has anyway."""
        self.same_from = 0
        """Where in the feed's bytes those begin that it was sent last."""

    def part(self, plain: bytes) -> bytes:
        """Return what to send for some bytes, while it is not joined."""
        part = compression_time.deflate(plain, self.tail)
        if not self.size:
            part = gzip_format.HEAD + part
        self.crc = zlib.crc32(plain, self.crc)
        self.size += len(plain)
        self.tail = _last(self.tail, plain)
        return part

    def last_part(self, plain: bytes) -> bytes:
        """Return what to send for the last bytes, with the end of the stream."""
        return self.part(plain) + gzip_format.end(self.crc, self.size)

    def leave(self) -> None:
        """Share nothing any more; what the subscriber was sent up to now counts."""
        if self.feed:
            self.feed.remove(self)


class SharedGzip:
    """What the subscribers of a feed with gzip share.

    :param parked: the feed's parked subscribers.
    """

    # There may be thousands.
    __slots__ = (
        "_before",
        "_crc",
        "_out_of_step",
        "_parked",
        "_payload",
        "_sequence",
        "_size",
        "_tail",
    )

    def __init__(self, parked: Collection[Member]) -> None:
        self._parked = parked
        self._tail = b""
        self._sequence = 0  # of the last payload
        self._crc = self._size = 0  # of all payloads
        self._before = (0, 0)  # both, before the last payload
        self._out_of_step: set[GzipStream] = set()
        self._payload: PayloadForAll | None = None  # that is being sent

    def begin(self, raw: bytes, event_count: int, pause: Callable[[], object]) -> GzipPayload:
        """Return a payload for all subscribers of the feed; a `with` block must end it. While
        another one is being sent, it is for each subscriber alone.

        :param pause: called between two pieces of work.
        """
        if self._payload:
            return GzipPayload(self, raw, event_count)
        self._payload = payload = PayloadForAll(self, raw, event_count, pause)
        try:
            self._compress(payload)
        except BaseException:
            self._payload = None
            raise
        return payload

    def _compress(self, payload: PayloadForAll) -> None:
        raw, pause, start = payload.raw, payload.pause, self._size
        tail = self._tail if len(raw) < _LARGE_BYTES else b""
        payload.shared_from = tail_from = start - len(tail)
        payload.shared = Payload(compression_time.deflate(raw, tail, pause))
        self._out_of_step = {it for it in self._out_of_step if it.same_from > tail_from}
        for same_from in _chosen({it.same_from for it in self._out_of_step}, start):
            before = tail[same_from - tail_from :]
            form = Payload(compression_time.deflate(raw, before, pause))
            payload.others.append((same_from, form))
        self._before = self._crc, self._size
        self._crc, self._size = zlib.crc32(raw, self._crc), start + len(raw)
        self._sequence = payload.sequence = self._sequence + 1
        payload.unsent_count = len(self._parked)
        # Without subscribers it may have been dropped meanwhile.
        self._tail = _last(tail, raw) if self._parked else b""
        if self._tail:
            tails.use(self)

    def end(self, payload: PayloadForAll) -> None:
        """Count those out that were not sent the payload."""
        try:
            if payload.unsent_count > 0:
                for subscriber in list(self._parked):
                    stream: GzipStream = subscriber.gzip
                    if stream.feed is self and stream.sequence != self._sequence:
                        self._set(stream, *self._total(stream), same=0)
                        payload.pause()
        finally:
            self._payload = None

    def note_sent_alone(self, stream: GzipStream, plain: bytes) -> None:
        """Count what a stream was sent alone."""
        crc, size = self._total(stream)
        feed_crc, feed_size = self._sent_to_all(stream)
        stream.crc = shift_crc(zlib.crc32(plain, crc) ^ feed_crc, -feed_size)
        stream.size = size + len(plain) - feed_size
        stream.same_from = self._size  # not before the end of a payload that is being sent
        self._out_of_step.add(stream)

    def add(self, stream: GzipStream) -> None:
        """Let a stream share the compression. It has everything that the feed was sent."""
        same = _common_end(self._tail, stream.tail)
        if self._payload and self._payload.sequence == self._sequence:
            # It has the payload that is being sent. Once more it is sent it alone.
            same = min(same, self._size - self._payload.shared_from - 1)
        if same < _LEAST_BYTES:  # all frames end alike
            same = 0
        self._set(stream, stream.crc, stream.size, same=same)
        stream.feed, stream.tail = self, b""

    def remove(self, stream: GzipStream) -> None:
        """Let a stream share it no more."""
        stream.crc, stream.size = self._total(stream)
        stream.feed = None
        self._out_of_step.discard(stream)

    def drop_tail(self) -> None:
        """Free memory. The next payload is compressed by itself."""
        self._tail = b""

    def drop(self) -> None:
        """The feed has no subscribers any more."""
        tails.discard(self)

    def _sent_to_all(self, stream: GzipStream) -> tuple[int, int]:
        """Return the CRC and the size of what the feed was sent, as far as a stream was."""
        return (self._crc, self._size) if stream.sequence == self._sequence else self._before

    def _total(self, stream: GzipStream) -> tuple[int, int]:
        """Return the CRC and the size of all that a joined stream was sent."""
        crc, size = self._sent_to_all(stream)
        return shift_crc(stream.crc, size) ^ crc, stream.size + size

    def _set(self, stream: GzipStream, crc: int, size: int, *, same: int) -> None:
        """Join a stream that was sent bytes of this CRC and size, the last of them the feed's."""
        stream.crc = shift_crc(crc ^ self._crc, -self._size)
        stream.size = size - self._size
        stream.sequence = self._sequence
        stream.same_from = self._size - same
        if same < len(self._tail):
            self._out_of_step.add(stream)


class GzipPayload(Payload):
    """A payload of which each subscriber is sent a form that its gzip stream can go on with. This
    one is for each of them alone.
    """

    __slots__ = ("_feed", "_stored", "sequence", "shared", "shared_from", "unsent_count")

    def __init__(self, feed: SharedGzip, raw: bytes, event_count: int) -> None:
        self.raw = raw
        self.event_count = event_count
        self.shared: Any = None
        """The form of the streams that have all of the feed's bytes from `shared_from` on."""
        self.shared_from = -1
        self.sequence = -1
        """The `GzipStream.sequence` of those that were sent it."""
        self.unsent_count = 0
        """How many subscribers have yet to be sent it, at most."""
        self._feed = feed
        self._stored: Payload | None = None

    def form_for(self, stream: GzipStream) -> Payload:  # noqa: ARG002 - a subclass needs it
        """Return the form that a stream can go on with."""
        if self._stored is None:
            self._stored = Payload(gzip_format.stored(self.raw))
        return self._stored

    def note_sent(self, stream: GzipStream) -> None:
        """Count it for a stream that was sent it, or will be."""
        self._feed.note_sent_alone(stream, self.raw)


class PayloadForAll(GzipPayload):
    """A payload that all subscribers of the feed are sent."""

    __slots__ = ("others", "pause")

    def __init__(
        self, feed: SharedGzip, raw: bytes, event_count: int, pause: Callable[[], object]
    ) -> None:
        super().__init__(feed, raw, event_count)
        self.pause = pause
        self.others: list[tuple[int, Payload]] = []
        """The forms of those that have them from a later place on, the shortest form first."""

    def __exit__(self, *_: object) -> None:
        self._feed.end(self)

    def form_for(self, stream: GzipStream) -> Payload:
        """See `GzipPayload`: the shortest form."""
        if stream.sequence != self.sequence:
            if stream.same_from <= self.shared_from:
                return self.shared  # type: ignore[no-any-return] # it is there
            for same_from, form in self.others:
                if stream.same_from <= same_from:
                    return form
        return super().form_for(stream)

    def note_sent(self, stream: GzipStream) -> None:
        """See `GzipPayload`."""
        if stream.sequence == self.sequence:  # it had the payload already
            self.unsent_count += 1
            super().note_sent(stream)
        stream.sequence = self.sequence


def _chosen(starts: set[int], end: int) -> list[int]:
    """Return the parts of a tail with which to compress a payload: of the streams that have none,
    the one that has the least, and the one that has the least of those that have far more.

    :param starts: where the parts begin that some streams have.
    :param end: of the tail.
    """
    if not starts:
        return []
    least = max((it for it in starts if it < end), default=end)
    more = max((it for it in starts if end - it >= _FAR_MORE * (end - least)), default=least)
    return sorted({more, least, max(starts)})


def _last(tail: bytes, plain: bytes) -> bytes:
    return (tail + plain[-DICTIONARY_BYTES:])[-DICTIONARY_BYTES:]


def _common_end(one: bytes, other: bytes) -> int:
    """Return how many of the last bytes are the same."""
    same, limit = 0, min(len(one), len(other))
    while same < limit:
        more = (same + limit + 1) // 2
        if one.endswith(other[len(other) - more :]):
            same = more
        else:
            limit = more - 1
    return same
