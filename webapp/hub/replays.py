"""What is on its way to subscribers that catch up, bounded for all of them together.

A subscriber that reads slowly holds what it is being sent. Frames that are large are encoded once
and shared, and each subscriber has a copy of one piece of them.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..core.events import Event, EventId
    from .feeds import Feed

    Shape = tuple[EventId, tuple[str, ...] | None]

PIECE_BYTES = 64 << 10  # written at once


class Frame:
    """The frame of a large event, for as long as anybody is being sent it."""

    __slots__ = ("__weakref__", "_freed", "data")

    def __init__(self, data: bytes, freed: Callable[[int], None]) -> None:
        self.data = data
        self._freed = freed

    def __del__(self) -> None:
        self._freed(len(self.data))


class Replays:
    """The bytes of replays that are being sent.

    :param most: of all together. One client has at most half of them, and one that has none may
        always be sent a page: nobody waits for others for ever.
    :param freed: called when there are less.
    """

    def __init__(self, most: int, freed: Callable[[], None]) -> None:
        self._most = most
        self._freed = freed
        self._shared_bytes = 0
        self._own_bytes = 0
        self._held: Counter[str] = Counter()  # bytes by client
        self._shared: WeakValueDictionary[Shape, Frame] = WeakValueDictionary()

    @property
    def bytes(self) -> int:
        """How many are being sent."""
        return self._shared_bytes + self._own_bytes

    def has_room(self, client: str) -> bool:
        """Tell whether a client may be sent more now."""
        held = self._held.get(client, 0)
        return not held or (held < self._most // 2 and self.bytes < self._most)

    def replay(self, client: str, feed: Feed, events: Sequence[Event]) -> Replay:
        """Return what a subscriber is sent of events that it sees; it must be iterated or closed.

        :param client: its address, as limits count it.
        """
        parts: list[bytes | Frame] = []
        small: list[Event] = []
        for event in events:
            if event.wire_bytes < PIECE_BYTES:
                small.append(event)
                continue
            parts += [feed.frames(small, {}), self._frame(feed, event)]
            small = []
        return Replay(self, client, [*parts, feed.frames(small, {})])

    def _frame(self, feed: Feed, event: Event) -> Frame:
        shape = event.position, feed.named(event) if feed.envelope else None
        frame = self._shared.get(shape)
        if frame is None:
            frame = Frame(feed.frames([event], {}), self._free_shared)
            self._shared_bytes += len(frame.data)
            self._shared[shape] = frame
        return frame

    def _free_shared(self, size: int) -> None:
        self._shared_bytes -= size
        self._freed()

    def hold(self, client: str, size: int) -> None:
        """Count bytes of a client; `release` must follow."""
        self._own_bytes += size
        self._held[client] += size

    def release(self, client: str, size: int) -> None:
        """Count them no more."""
        self._own_bytes -= size
        self._held[client] -= size
        if not self._held[client]:
            del self._held[client]
        self._freed()


class Replay:
    """Bytes for one subscriber, as pieces; once they are out, others may be sent more."""

    __slots__ = ("_client", "_held", "_parts", "_replays", "size")

    def __init__(self, replays: Replays, client: str, parts: list[bytes | Frame]) -> None:
        self._replays, self._client, self._parts = replays, client, parts
        sizes = [len(it.data if isinstance(it, Frame) else it) for it in parts]
        self.size = sum(sizes)
        """Its bytes in all."""
        self._held = sum(min(size, PIECE_BYTES) for size in sizes)
        replays.hold(client, self._held)

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
            self._replays.release(self._client, self._held)
