"""The queue of all who read the log's past: what one client asks for costs that client."""

from __future__ import annotations

from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING

from gevent.event import Event as Signal

from ..core.events import EventId

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_FROM_THE_START = 4  # of so many turns, one is given to who waits longest
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
    """A fair queue: clients take turns, and of one client's readings the newest place comes first,
    since it is the one that is soon done. Each fourth turn is for the one that waits longest.

    :param try_write: how many have their turn at the same time.
    :param may: whether a client may have one now; after a change `go_on` must be called.
    """

    def __init__(self, try_write: int, may: Callable[[str], bool]) -> None:
        self._free = try_write
        self._may = may
        # The client that waits longest for a turn first; of its readings the oldest first.
        self._waiting: dict[str, dict[Reading, None]] = {}
        self._given = 0

    @contextmanager
    def turn(self, reading: Reading, position: EventId) -> Iterator[None]:
        """Wait for a turn, and have it. Where nobody else wants one it does not yield to the loop.

        :param position: from where the log is read.
        :raises Left: the reading was cancelled.
        """
        reading.check()
        reading.position, reading.asked = position, monotonic()
        self._await(reading)
        try:
            yield
        finally:
            reading.granted = False
            self._free += 1
            self.go_on()

    def _await(self, reading: Reading) -> None:
        self._waiting.setdefault(reading.client, {})[reading] = None
        self.go_on()
        try:
            while not reading.granted:
                reading.signal.wait()
                reading.signal.clear()
                reading.check()
        except BaseException:
            self._give_back(reading)
            raise

    def _give_back(self, reading: Reading) -> None:
        if reading.granted:
            reading.granted = False
            self._free += 1
            self.go_on()
        else:
            self._forget(reading)

    def go_on(self) -> None:
        """Give turns to those that may have one."""
        while self._free and (reading := self._next()):
            self._free -= 1
            self._forget(reading)
            reading.granted = True
            reading.signal.set()

    def _next(self) -> Reading | None:
        for client, readings in self._waiting.items():
            if self._may(client):
                self._given += 1
                if self._given % _FROM_THE_START == 0:
                    return next(iter(readings))
                return max(readings, key=_position)
        return None

    def _forget(self, reading: Reading) -> None:
        readings = self._waiting.pop(reading.client)
        del readings[reading]
        if readings:  # behind all other clients
            self._waiting[reading.client] = readings


def _position(reading: Reading) -> EventId:
    return reading.position
