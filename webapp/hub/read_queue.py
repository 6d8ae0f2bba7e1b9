"""The queue of all who read the log's past: what one client asks for costs that client."""

from __future__ import annotations

from contextlib import contextmanager
from heapq import heapify, heappop, heappush
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING

from gevent.event import Event as Signal

from ..core.events import EventId

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TURN_S = 0.004
"""Seconds of work after which a turn should end."""
_FROM_THE_START = 4  # of so many turns, one is given to the reading that waits longest
_REMEMBERED_CLIENTS = 1000  # that are forgotten only when there are more
_NOWHERE = EventId(0, 0)


class Left(Exception):
    """The client for whom the log is read has left, or its stream is to end."""


class Reading:
    """What one client reads of the log's past.

    :param client: its address, as limits count it.
    """

    __slots__ = ("asked", "cancelled", "client", "granted", "position", "signal")

    def __init__(self, client: str) -> None:
        self.client = client
        self.position = _NOWHERE
        """From where it reads on."""
        self.asked = 0.0
        """When it asked for its turn, a monotonic time."""
        self.granted = False
        self.cancelled = False
        self.signal = Signal()

    def cancel(self) -> None:
        """End it soon, also while it waits for its turn."""
        self.cancelled = True
        self.signal.set()

    def check(self) -> None:
        """Stop here if it was cancelled.

        :raises Left: it was.
        """
        if self.cancelled:
            raise Left


class Turns:
    """A fair queue: clients share the time that turns take, so the client that has used the least
    comes first. Of one client's readings the one with the newest position comes first, since it is
    soon done. Each fourth turn is for the one that waits longest.

    :param free: how many have their turn at the same time.
    :param may: whether a client may have one now; after a change `go_on` must be called.
    :param clock: seconds that only go forward.
    """

    def __init__(
        self, free: int, may: Callable[[str], bool], clock: Callable[[], float] = monotonic
    ) -> None:
        self._all = self._free = free
        self._may = may
        self._clock = clock
        # By client, of its readings the oldest first.
        self._waiting: dict[str, dict[Reading, None]] = {}
        # The clients that wait, by what they had used when they were queued and a number. An entry
        # counts only with its client's newest number.
        self._order: list[tuple[float, int, str]] = []
        self._number: dict[str, int] = {}
        self._numbers = count()
        self._used: dict[str, float] = {}  # seconds by client; at least `_least_used` counts
        self._least_used = 0.0  # of the client that had the last turn
        self._granted = 0

    @contextmanager
    def turn(self, reading: Reading, position: EventId) -> Iterator[None]:
        """Wait for a turn, and have it. Where nobody else wants one it does not yield to the loop.

        :param position: from where the log is read.
        :raises Left: the reading was cancelled.
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
        self.go_on()
        try:
            while not reading.granted:
                reading.signal.wait()
                reading.signal.clear()
                reading.check()
        except BaseException:
            if reading.granted:
                self._end(reading, 0.0)
            else:
                self._forget(reading)
            raise

    def _end(self, reading: Reading, seconds: float) -> None:
        reading.granted = False
        self._used[reading.client] = self._used.get(reading.client, 0.0) + seconds - TURN_S
        self._free += 1
        self.go_on()
        if self._free == self._all and not self._waiting:
            self._used.clear()  # no client had to wait for another
        elif len(self._used) > 2 * len(self._waiting) + _REMEMBERED_CLIENTS:
            least = self._least_used
            self._used = {client: used for client, used in self._used.items() if used > least}

    def go_on(self) -> None:
        """Give turns to those that may have one."""
        refused: list[str] = []
        while self._free and self._order:
            used, number, client = heappop(self._order)
            if self._number.get(client) != number:
                continue
            if self._used.get(client, 0.0) > used:  # it has used more since
                self._queue(client)
            elif self._may(client):
                self._grant(client)
            else:
                refused.append(client)
        for client in refused:
            self._queue(client)

    def _queue(self, client: str) -> None:
        used = self._used[client] = max(self._used.get(client, 0.0), self._least_used)
        number = self._number[client] = next(self._numbers)
        heappush(self._order, (used, number, client))
        if len(self._order) > 2 * len(self._number) + _REMEMBERED_CLIENTS:
            self._order = [it for it in self._order if self._number.get(it[2]) == it[1]]
            heapify(self._order)

    def _grant(self, client: str) -> None:
        self._free -= 1
        self._granted += 1
        self._least_used = max(self._least_used, self._used[client])
        # Until it ends, a turn counts as one of the usual length.
        self._used[client] += TURN_S
        readings = self._waiting[client]
        oldest = self._granted % _FROM_THE_START == 0
        reading = next(iter(readings)) if oldest else max(readings, key=_position)
        self._forget(reading)
        if client in self._waiting:
            self._queue(client)
        reading.granted = True
        reading.signal.set()

    def _forget(self, reading: Reading) -> None:
        readings = self._waiting[reading.client]
        del readings[reading]
        if not readings:
            del self._waiting[reading.client], self._number[reading.client]


def _position(reading: Reading) -> EventId:
    return reading.position
