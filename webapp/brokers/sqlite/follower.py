"""What a follower of a log in a file waits for."""

from __future__ import annotations

import logging
from random import uniform
from typing import TYPE_CHECKING

from gevent.event import Event as Signal

if TYPE_CHECKING:
    from ...core.events import Event, EventId

logger = logging.getLogger(__name__)

PAGE_BYTES = 256 << 10  # handed to a follower at once

_BACKOFF = (0.1, 5.0)  # seconds, the first and the longest


class FollowerQueue:
    """What one follower is owed after its place.

    What this process commits is handed to it as it is, as long as nothing lies in between;
    otherwise it is stale, and looks in the file until it finds nothing more.
    """

    def __init__(self, position: EventId) -> None:
        self.position = position  # of the newest that was handed or read
        self.stale = True
        self.looks = 0  # how often it was told to look
        self._quiet = False  # since the last tick
        self._handed: list[Event] = []
        self._size = 0  # of these
        self._stirred = Signal()

    def push(self, after: EventId, events: list[Event]) -> None:
        """Give it what was committed after a place."""
        more = self._size + size(events)
        if self.stale or after != self.position or more > PAGE_BYTES:
            self.look()
            return
        self._handed += events
        self._size = more
        self.position = events[-1].position
        self._quiet = False
        self._stirred.set()

    def look(self) -> None:
        """Tell it that there may be more in the file."""
        self.stale = True
        self.looks += 1
        self._stirred.set()

    def handed(self) -> list[Event]:
        """Return what was handed to it, once."""
        events, self._handed, self._size = self._handed, [], 0
        return events

    def tick(self) -> None:
        """Let it look without being told where nothing was handed to it since the last tick."""
        if self._quiet:
            self.look()
        self._quiet = True

    def wait(self) -> None:
        """Wait until there is something."""
        self._stirred.wait()  # without a time-out: a timer for each event would cost more
        self._stirred.clear()


class Outage:
    """The time in which a log is away: told once, asked again ever more slowly."""

    def __init__(self) -> None:
        self._pause = 0.0

    def pause(self, error: Exception) -> float:
        """Return how long to wait, in seconds, before it is asked again."""
        if not self._pause:
            logger.error("the log is away: %s", error)
        self._pause = min(max(self._pause * 2, _BACKOFF[0]), _BACKOFF[1])
        return self._pause * uniform(0.5, 1)  # noqa: S311 - no secret

    def over(self) -> None:
        """The log answers."""
        if self._pause:
            logger.warning("the log is back")
        self._pause = 0.0


def size(events: list[Event]) -> int:
    """Return how many bytes their frames are."""
    return sum(event.wire_bytes for event in events)
