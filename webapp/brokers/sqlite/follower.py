"""What one follower of an event log in a file has yet to yield."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gevent.event import Event as Signal

if TYPE_CHECKING:
    from ...core.events import Event, EventId

PAGE_BYTES = 256 << 10  # what a follower yields at once


class FollowerQueue:
    """Events that this process committed and one follower has not yielded yet.

    While the queue is up to date, commits of this process reach the follower without the file.
    When another process committed in between, or the follower is slow, the queue is stale: then
    the follower reads the file until it finds nothing more.
    """

    def __init__(self, position: EventId) -> None:
        self.position = position  # of the newest event that was queued or read
        self.stale = True
        self.marks = 0  # how often it was marked stale
        self._quiet = False  # nothing was pushed since the last tick
        self._events: list[Event] = []
        self._size = 0  # bytes of these
        self._wakeup = Signal()

    def push(self, after: EventId, events: list[Event]) -> None:
        """Add the events that were committed after a position."""
        more = self._size + frame_bytes(events)
        if self.stale or after != self.position or more > PAGE_BYTES:
            self.mark_stale()
            return
        self._events += events
        self._size = more
        self.position = events[-1].position
        self._quiet = False
        self._wakeup.set()

    def mark_stale(self) -> None:
        """Have the follower read the file."""
        self.stale = True
        self.marks += 1
        self._wakeup.set()

    def take(self) -> list[Event]:
        """Return the queued events, and remove them."""
        events, self._events, self._size = self._events, [], 0
        return events

    def tick(self) -> None:
        """Mark the queue stale if nothing was pushed since the last tick: a wake-up by another
        process may have been lost.
        """
        if self._quiet:
            self.mark_stale()
        self._quiet = True

    def wait(self) -> None:
        """Wait until events were pushed, or the queue was marked stale."""
        self._wakeup.wait()  # without a time-out: a timer for each event would cost more
        self._wakeup.clear()


def frame_bytes(events: list[Event]) -> int:
    """Return how many bytes the frames of some events have."""
    return sum(event.wire_bytes for event in events)
