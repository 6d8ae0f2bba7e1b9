"""The queue of all reads of past events. It is fair: many reads of one client cost that client."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from heapq import heapify, heappop, heappush
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from gevent.event import Event as Signal

from ..core.events import EventId
from ..scheduling import TimeSlice, cooperative

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .found_topics import FoundTopics

T = TypeVar("T")

TURN_S = 0.004
"""Seconds of work after which a turn should end."""
_OLDEST_FIRST_EVERY = 4  # turns of a client: one goes to its reading that has waited longest
_REMEMBERED_CLIENTS = 1000  # clients are forgotten only when there are more
_NO_POSITION = EventId(0, 0)


class ReadingCancelled(Exception):
    """A reading was cancelled: its client has left, or its stream is to end."""


class Reading:
    """The read of past events for one stream, in several turns.

    :param client: the name under which limits count its client.
    """

    __slots__ = (
        "_signal",
        "_slice",
        "asked",
        "cancelled",
        "client",
        "has_turn",
        "position",
        "topics",
    )

    def __init__(self, client: str) -> None:
        self.client = client
        self.position = _NO_POSITION
        """The position after or before which it reads next."""
        self.asked = 0.0
        """When it began to wait for its turn, in monotonic seconds."""
        self.has_turn = False
        """Whether it is its turn."""
        self.cancelled = False
        self.topics: FoundTopics | None = None
        """The topics that its feed matches, as far as they were looked up."""
        self._signal: Signal | None = None
        self._slice: TimeSlice | None = None

    @property
    def signal(self) -> Signal:
        """The signal that it waits for. A stream that begins at the head waits for nothing."""
        if self._signal is None:
            self._signal = Signal()
        return self._signal

    def cancel(self) -> None:
        """End the reading soon, also while it waits."""
        self.cancelled = True
        self.signal.set()

    def check(self) -> None:
        """Raise an error if the reading was cancelled.

        :raises ReadingCancelled: it was.
        """
        if self.cancelled:
            raise ReadingCancelled

    def cooperative(self, items: Iterable[T]) -> Iterator[T]:
        """Yield all items, with a yield to the loop now and then. All such work of a reading has
        one slice of time: its pages may be many, and each of them short.

        :raises ReadingCancelled: the reading was cancelled meanwhile.
        """
        self._slice = self._slice or TimeSlice()
        self._slice.checkpoint()  # there may be no items
        for item in cooperative(items, self._slice):
            self.check()
            yield item

    def wait(self, seconds: float | None = None) -> None:
        """Wait until its turn, its end, or for some seconds; None: for any time.

        :raises ReadingCancelled: it was cancelled meanwhile.
        """
        self.check()
        self.signal.clear()
        self.signal.wait(seconds)
        self.check()


class ReadQueue:
    """Grants turns to readings. Clients share the time that turns take, so the client that has used
    the least comes first. Of one client's readings the one with the newest position comes first,
    because it is done soonest; each fourth turn of a client goes to its oldest reading.

    :param limit: how many readings have their turn at the same time.
    :param may_read: whether a client may have a turn now; call `grant_turns` when that changes.
    :param clock: monotonic seconds.
    """

    def __init__(
        self, limit: int, may_read: Callable[[str], bool], clock: Callable[[], float] = monotonic
    ) -> None:
        self._limit = self._free = limit
        self._may_read = may_read
        self._clock = clock
        # By client; of its readings the oldest first.
        self._waiting: dict[str, dict[Reading, None]] = {}
        # The clients that wait: what they had used when they were queued, a number, their name.
        # An entry counts only if it has its client's newest number.
        self._order: list[tuple[float, int, str]] = []
        self._number: dict[str, int] = {}
        self._numbers = count()
        self._used_s: dict[str, float] = {}  # by client; less than `_least_used_s` counts as that
        self._least_used_s = 0.0  # of the client that had the last turn
        self._granted: Counter[str] = Counter()  # turns, by client that waits

    @contextmanager
    def turn(self, reading: Reading, position: EventId) -> Iterator[None]:
        """Wait for a turn, and have it inside the context. It does not yield to the loop where the
        turn is free.

        :param position: where the event log is read.
        :raises ReadingCancelled: the reading was cancelled.
        """
        reading.check()
        reading.position, reading.asked = position, monotonic()
        self._await(reading)
        began = self._clock()
        try:
            yield
        finally:
            self._end(reading, self._clock() - began)

    def _await(self, reading: Reading) -> None:
        if reading.client not in self._waiting:
            self._queue(reading.client)
        self._waiting.setdefault(reading.client, {})[reading] = None
        self.grant_turns()
        try:
            while not reading.has_turn:
                reading.wait()
        except BaseException:
            if reading.has_turn:
                self._end(reading, 0.0)
            else:
                self._remove(reading)
            raise

    def _end(self, reading: Reading, seconds: float) -> None:
        reading.has_turn = False
        self._used_s[reading.client] = self._used_s.get(reading.client, 0.0) + seconds - TURN_S
        self._free += 1
        self.grant_turns()
        if self._free == self._limit and not self._waiting:
            self._used_s.clear()  # no client had to wait for another
        elif len(self._used_s) > 2 * len(self._waiting) + _REMEMBERED_CLIENTS:
            least = self._least_used_s
            self._used_s = {client: used for client, used in self._used_s.items() if used > least}

    def grant_turns(self) -> None:
        """Grant turns to the readings that are next."""
        refused: list[str] = []
        while self._free and self._order:
            used, number, client = heappop(self._order)
            if self._number.get(client) != number:
                continue
            if self._used_s.get(client, 0.0) > used:  # it has used more since
                self._queue(client)
            elif self._may_read(client):
                self._grant(client)
            else:
                refused.append(client)
        for client in refused:
            self._queue(client)

    def _queue(self, client: str) -> None:
        used = self._used_s[client] = max(self._used_s.get(client, 0.0), self._least_used_s)
        number = self._number[client] = next(self._numbers)
        heappush(self._order, (used, number, client))
        if len(self._order) > 2 * len(self._number) + _REMEMBERED_CLIENTS:
            self._order = [it for it in self._order if self._number.get(it[2]) == it[1]]
            heapify(self._order)

    def _grant(self, client: str) -> None:
        self._free -= 1
        self._granted[client] += 1
        self._least_used_s = max(self._least_used_s, self._used_s[client])
        # Until it ends, a turn counts as one of the usual length.
        self._used_s[client] += TURN_S
        readings = self._waiting[client]
        oldest = self._granted[client] % _OLDEST_FIRST_EVERY == 0
        reading = (
            next(iter(readings)) if oldest else max(readings, key=lambda reading: reading.position)
        )
        self._remove(reading)
        if client in self._waiting:
            self._queue(client)
        reading.has_turn = True
        reading.signal.set()

    def _remove(self, reading: Reading) -> None:
        readings = self._waiting[reading.client]
        del readings[reading]
        if not readings:
            del self._waiting[reading.client], self._number[reading.client]
            self._granted.pop(reading.client, None)
