"""One gzip compression for all subscribers of a feed.

A payload is compressed once, by a compressor of its own. The compressor is given the last bytes
that the feed's subscribers were sent before: the feed's *tail*. No compressor is kept. So a
subscriber can read the payload if it was sent the same bytes before.

A subscriber joins its feed when it parks. If the last bytes that it was sent are the whole tail, it
is sent the payload that was compressed with the tail. Otherwise it is sent another form, which was
compressed with a shorter part of the tail, or with none. A feed with many subscribers has a longer
tail and more forms.

A gzip stream ends with the CRC of all its bytes. The feed keeps the CRC of what it sent to all. Of
a subscriber it keeps only the difference to that, which stays the same while both are sent the same
bytes. See `core.gzip_format.shift_crc`.

At most one payload is sent to all at a time. What one subscriber is sent alone is stored, and the
next payload, too.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, NamedTuple

from ...core import gzip_format
from ...core.gzip_format import DICTIONARY_BYTES, LONG_DICTIONARY_BYTES, shift_crc
from ...core.sse import Payload
from .gzip_limits import compression_time, tails
from .gzip_payload import PayloadForAll, PayloadForEach
from .gzip_tail import GzipTail

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from .gzip_payload import GzipPayload, Member

_LEAST_BYTES = 64  # of a part of a tail, to compress a payload with it
_LARGE_BYTES = 32 << 10  # of a payload, for which a tail makes next to no difference
_SMALL_BYTES = 4 << 10  # of a payload, for which a long tail makes a difference
_MANY = 32  # subscribers, for whom more is done


class Effort(NamedTuple):
    """What is done to make a payload shorter."""

    tail_bytes: int
    forms: int
    """How many other forms it may have."""
    far_more: float
    """How many times as much of the tail is needed for one more form."""


_FOR_FEW = Effort(DICTIONARY_BYTES, forms=3, far_more=4)
_FOR_MANY = Effort(LONG_DICTIONARY_BYTES, forms=8, far_more=2)


class GzipStream:
    """The gzip stream of one subscriber, which shares a feed's compression while it is joined."""

    __slots__ = ("crc", "feed", "same_from", "size", "tail")

    def __init__(self) -> None:
        self.crc = self.size = 0
        """Of all plain bytes so far. While it is joined: their difference to those of the feed."""
        self.tail = b""
        """The last plain bytes, while it is not joined."""
        self.feed: SharedGzip | None = None
        self.same_from = 0
        """Where in the feed's bytes those begin that it was sent last."""

    def part(self, plain: bytes) -> bytes:
        """Return what to send for some bytes, while it is not joined."""
        part = compression_time.deflate(plain, self.tail)
        if not self.size:
            part = gzip_format.HEAD + part
        self.crc = zlib.crc32(plain, self.crc)
        self.size += len(plain)
        self.tail = (self.tail + plain[-DICTIONARY_BYTES:])[-DICTIONARY_BYTES:]
        return part

    def last_part(self, plain: bytes) -> bytes:
        """Return what to send for the last bytes, with the end of the stream."""
        return self.part(plain) + gzip_format.end(self.crc, self.size)


class SharedGzip:
    """What the subscribers of a feed with gzip share.

    :param parked: the feed's parked subscribers.
    """

    # There may be thousands.
    __slots__ = (
        "_before",
        "_crc",
        "_is_busy",
        "_newcomers",
        "_parked",
        "_payload",
        "_size",
        "_tail",
    )

    def __init__(self, parked: Collection[Member]) -> None:
        self._parked = parked
        self._tail = GzipTail()
        self._crc = self._size = 0  # of all payloads
        self._before = (0, 0)  # both, before the payload that is being sent
        self._newcomers: set[Member] = set()
        """Subscribers that were not sent all of the feed's last `LONG_DICTIONARY_BYTES`."""
        self._is_busy = False
        self._payload: PayloadForAll | None = None  # that is being sent

    def begin(self, plain: bytes, event_count: int, pause: Callable[[], object]) -> GzipPayload:
        """Return a payload for all subscribers of the feed; a `with` block must end it. While
        another one is being sent, it is for each subscriber alone.

        :param pause: called between two pieces of work.
        """
        if self._is_busy:
            return PayloadForEach(self, plain, event_count)
        self._is_busy = True
        try:
            return self._compress(plain, event_count, pause)
        except BaseException:
            self._is_busy = False
            raise

    def _compress(
        self, plain: bytes, event_count: int, pause: Callable[[], object]
    ) -> PayloadForAll:
        start, kept = self._size, self._tail.plain() if len(plain) < _LARGE_BYTES else b""
        settled_from = self._settled_from
        self._newcomers = {it for it in self._newcomers if it.gzip.same_from > settled_from}
        effort = _FOR_MANY if len(self._parked) >= _MANY and len(plain) < _SMALL_BYTES else _FOR_FEW
        tail = kept[-effort.tail_bytes :]
        part = compression_time.deflate(plain, tail, pause)
        forms = self._forms(plain, tail, effort, pause)
        # From here on nothing yields to the loop.
        payload = PayloadForAll(self, plain, part, event_count, pause)
        found = ((member, forms.get(member.gzip.same_from)) for member in self._newcomers)
        payload.forms = {member: form for member, form in found if form}
        payload.unsent_count = len(self._parked)
        self._payload, self._before = payload, (self._crc, start)
        self._crc, self._size = zlib.crc32(plain, self._crc), start + len(plain)
        # Without subscribers it may have been dropped meanwhile.
        if self._parked:
            self._tail.add(kept, plain, part, is_long=effort is _FOR_MANY)
            tails.use(self)
        else:
            self._tail.clear()
        return payload

    def _forms(
        self, plain: bytes, tail: bytes, effort: Effort, pause: Callable[[], object]
    ) -> dict[int, Payload]:
        """Return the forms for newcomers, by where the part of the tail begins that they have.

        The first form fits the newcomer with the smallest part. Each further form needs a part
        that is larger by a factor. A newcomer gets the last form that its part is enough for.
        """
        end, forms = self._size, dict[int, Payload]()
        sizes = {end - it.gzip.same_from for it in self._newcomers}
        form, used, count = None, 0, 0
        for size in sorted(it for it in sizes if it < len(tail)):
            if form is None or (size >= effort.far_more * used and count < effort.forms):
                form = Payload(compression_time.deflate(plain, tail[len(tail) - size :], pause))
                used, count = size, count + 1
            forms[end - size] = form
        return forms

    @property
    def _settled_from(self) -> int:
        """A subscriber that was sent all of the feed's bytes from here on is no newcomer."""
        return max(0, self._size - LONG_DICTIONARY_BYTES)

    def end(self, payload: PayloadForAll) -> None:
        """Count those out that were not sent the payload."""
        try:
            for member in list(self._parked) if payload.unsent_count > 0 else ():
                if member.gzip.feed is self and not payload.was_sent_to(member):
                    total = self._total(member)
                    payload.let_have(member)
                    self._set(member, *total, same=0)
                    payload.pause()
        finally:
            self._payload, self._is_busy = None, False

    def note_sent_alone(self, member: Member, plain: bytes) -> None:
        """Count what a subscriber was sent alone, unless it has left."""
        stream: GzipStream = member.gzip
        if stream.feed is not self:
            return
        crc, size = self._total(member)
        feed_crc, feed_size = self._sent_to_all(member)
        stream.crc = shift_crc(zlib.crc32(plain, crc) ^ feed_crc, -feed_size)
        stream.size = size + len(plain) - feed_size
        stream.same_from = self._size  # not before the end of a payload that is being sent
        self._newcomers.add(member)
        if self._payload:
            self._payload.store_for(member)

    def add(self, member: Member) -> None:
        """Let a subscriber share the compression. It has everything that the feed was sent."""
        stream: GzipStream = member.gzip
        same = _common_end(self._tail.plain(), stream.tail)
        if self._payload:
            self._payload.let_have(member)
        if same < _LEAST_BYTES:  # all frames end alike
            same = 0
        self._set(member, stream.crc, stream.size, same=same)
        stream.feed, stream.tail = self, b""

    def remove(self, member: Member) -> None:
        """Let a subscriber stop sharing the compression; what it was sent up to now counts."""
        stream: GzipStream = member.gzip
        stream.crc, stream.size = self._total(member)
        stream.feed = None
        self._newcomers.discard(member)

    def drop_tail(self) -> None:
        """Free memory. The next payload is compressed by itself."""
        self._tail.clear()

    def drop(self) -> None:
        """The feed has no subscribers any more."""
        tails.discard(self)

    def _sent_to_all(self, member: Member) -> tuple[int, int]:
        """Return the CRC and the size of what the feed was sent, as far as a subscriber was."""
        if self._payload and not self._payload.was_sent_to(member):
            return self._before
        return self._crc, self._size

    def _total(self, member: Member) -> tuple[int, int]:
        """Return the CRC and the size of all that a joined subscriber was sent."""
        crc, size = self._sent_to_all(member)
        return shift_crc(member.gzip.crc, size) ^ crc, member.gzip.size + size

    def _set(self, member: Member, crc: int, size: int, *, same: int) -> None:
        """Join a subscriber that was sent bytes of this CRC and size.

        :param same: how many of the last bytes are those of the feed.
        """
        stream: GzipStream = member.gzip
        stream.crc = shift_crc(crc ^ self._crc, -self._size)
        stream.size = size - self._size
        stream.same_from = self._size - same if same else self._size  # an object that many share
        if stream.same_from > self._settled_from:
            self._newcomers.add(member)


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
