"""The memory of events that are being sent to streams that catch up or are slow. It is bounded.

A slow client keeps in memory what it is being sent. A large frame is encoded once and shared; each
stream copies one piece of it at a time. What the dispatcher writes live is shared by a feed.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import gevent

from ...free_memory import return_free_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ...core.events import Event, EventId
    from .feeds import Feed

    Shape = tuple[EventId, tuple[str, ...] | None]

PIECE_BYTES = 64 << 10  # written at once; larger frames are shared
_SMALL_BYTES = 4 << 10  # of live data, less than a connection's buffers in the kernel: always kept
_RETURNED_BYTES = 16 << 20  # fewer than there were: the C library may keep as much for itself
_RETURN_DELAY_S = 1  # after which the last of them are free


class Frame:
    """Bytes such as the frame of a large event, in memory as long as any stream is sent them.

    :param on_free: called with its size when it is freed.
    """

    __slots__ = ("__weakref__", "_on_free", "data")

    def __init__(self, data: bytes, on_free: Callable[[int], None]) -> None:
        self.data = data
        self._on_free = on_free

    def __del__(self) -> None:
        self._on_free(len(self.data))


class Replays:
    """Counts the bytes of replays that are being sent.

    :param limit: bytes of all clients together. One client has at most half of them. A client that
        has none may always be sent a page, so that it does not wait for others without end.
    :param on_less: called when there are fewer.
    """

    def __init__(self, limit: int, on_less: Callable[[], None]) -> None:
        self._limit = limit
        self._on_less = on_less
        self._shared_bytes = 0
        self._own_bytes = 0
        self._bytes_of: Counter[str] = Counter()  # by client
        self._peak_bytes = 0  # since memory was returned
        self._shared: WeakValueDictionary[Shape, Frame] = WeakValueDictionary()
        self._live: WeakValueDictionary[int, Frame] = WeakValueDictionary()  # by `id` of the data

    @property
    def sending_bytes(self) -> int:
        """How many are being sent."""
        return self._shared_bytes + self._own_bytes

    def has_room(self, client: str) -> bool:
        """Whether a client may be sent more now."""
        size = self._bytes_of.get(client, 0)
        return not size or (size < self._limit // 2 and self.sending_bytes < self._limit)

    def replay(self, client: str, feed: Feed, events: Sequence[Event]) -> Replay:
        """Return what a stream is sent of events that its feed matches. It counts from now until it
        was iterated.

        :param client: the name under which limits count the stream's client.
        """
        parts: list[bytes | Frame] = []
        small: list[Event] = []
        for event in events:
            if event.wire_bytes < PIECE_BYTES:
                small.append(event)
                continue
            parts += [feed.render(small, {}), self._frame(feed, event)]
            small = []
        return Replay(self, client, [*parts, feed.render(small, {})])

    def snapshot(
        self, client: str, feed: Feed, events: Sequence[Event], last_id: EventId | None
    ) -> Replay:
        """Return what `replay` does, without ids.

        :param last_id: the id of the last frame; None: more follow, and it has none either.
        """
        ids = [None] * (len(events) - 1) + [str(last_id) if last_id else None]
        parts = list[bytes | Frame]()
        for data in map(feed.render_of_snapshot, events, ids):
            if len(data) < PIECE_BYTES:
                parts.append(data)
            else:
                self._shared_bytes += len(data)
                parts.append(Frame(data, self._free_shared))
        return Replay(self, client, parts)

    def _frame(self, feed: Feed, event: Event) -> Frame:
        shape = event.position, feed.visible_topics(event) if feed.form.envelope else None
        frame = self._shared.get(shape)
        if frame is None:
            frame = Frame(feed.render([event], {}), self._free_shared)
            self._shared_bytes += len(frame.data)
            self._shared[shape] = frame
        return frame

    def _free_shared(self, size: int) -> None:
        self._shared_bytes -= size
        self._on_less()

    def hold_live(self, client: str, data: bytes) -> Frame | None:
        """Count live data that did not fit into a socket, for as long as the result exists. All
        that are sent the same data share one result. None: there is no room.

        :param client: the name under which limits count the client; the first one is charged.
        """
        frame, size = self._live.get(id(data)), len(data)
        if frame is None and (size <= _SMALL_BYTES or self._fits(client, size)):
            frame = self._live[id(data)] = Frame(data, partial(self.release, client))
            self.acquire(client, size)
        return frame

    def _fits(self, client: str, size: int) -> bool:
        of_client = self._bytes_of.get(client, 0) + size
        return of_client <= self._limit // 2 and self.sending_bytes + size <= self._limit

    def acquire(self, client: str, size: int) -> None:
        """Count bytes of a client; `release` must follow."""
        self._own_bytes += size
        self._bytes_of[client] += size
        self._peak_bytes = max(self._peak_bytes, self.sending_bytes)

    def release(self, client: str, size: int) -> None:
        """Stop counting bytes of a client."""
        self._own_bytes -= size
        self._bytes_of[client] -= size
        if not self._bytes_of[client]:
            del self._bytes_of[client]
        if self._peak_bytes - self.sending_bytes > _RETURNED_BYTES:
            self._peak_bytes = self.sending_bytes
            gevent.spawn_later(_RETURN_DELAY_S, return_free_memory)
        self._on_less()


class Replay:
    """Bytes for one stream, in pieces. Once they are sent, others may be sent more."""

    __slots__ = ("_client", "_counted", "_parts", "_replays", "size")

    def __init__(self, replays: Replays, client: str, parts: list[bytes | Frame]) -> None:
        self._replays, self._client, self._parts = replays, client, parts
        sizes = [len(it.data if isinstance(it, Frame) else it) for it in parts]
        self.size = sum(sizes)
        """The number of its bytes."""
        self._counted = sum(min(size, PIECE_BYTES) for size in sizes)
        replays.acquire(client, self._counted)

    def __iter__(self) -> Iterator[bytes]:
        """Yield the pieces, once."""
        try:
            for part in self._parts:
                if isinstance(part, Frame):
                    view = memoryview(part.data)
                    for start in range(0, len(view), PIECE_BYTES):
                        yield bytes(view[start : start + PIECE_BYTES])
                elif part:
                    yield part
        finally:
            self._parts = []
            self._replays.release(self._client, self._counted)
