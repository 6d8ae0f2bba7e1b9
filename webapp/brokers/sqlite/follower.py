"""The events that one follower of an event log in a file has not yielded yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gevent.event import Event as Signal

if TYPE_CHECKING:
    from ...core.events import Event, EventId
    from ..backlog import Backlog

PAGE_BYTES = 256 << 10  # what a follower yields at once of what its process committed


class FollowerQueue:
    """Events that this process committed and one follower has not yielded yet.

    Commits of this process reach the follower without the file, unless another process committed
    in between. After a commit of another process the queue is stale: once it is empty, the follower
    reads the file until it finds nothing more.

    :param backlog: counts the bytes that the follower has not finished with.
    """

    def __init__(self, position: EventId, backlog: Backlog) -> None:
        self.position = position  # of the newest event that was queued or read
        self.stale = True
        self._backlog = backlog
        self.behind = 0  # bytes of the event log that the follower has not finished with
        self._reading = False  # the next page is being read from the file
        self._expected: set[EventId] = set()  # the positions before the next pushes
        self._yielded = 0  # bytes of these that the follower works on
        self._unread = 0  # bytes that were pushed since the last reading of the file began
        self._marked = True  # it was marked stale since then
        self._quiet = False  # nothing was pushed since the last tick
        self._events: list[Event] = []
        self._size = 0  # bytes of these
        self._wakeup = Signal()

    @property
    def must_read(self) -> bool:
        """Whether the follower has to read the file now, if nothing is queued."""
        return self.stale and self.position not in self._expected

    def expect(self, after: EventId) -> None:
        """Note that this process has committed something after a position, and will push it within
        a moment. To read it from the file, too, would take longer.
        """
        self._expected.add(after)

    def push(self, after: EventId, events: list[Event], size: int) -> None:
        """Add the events that were committed after a position.

        :param events: none if all were refused.
        :param size: bytes of their frames.
        """
        self._expected.discard(after)
        if not events:
            self._wakeup.set()  # what others committed meanwhile is to be read now
            return
        self.behind += size
        self._backlog.size += size
        if self._reading or after != self.position:
            self._unread += size
            self.mark_stale()
            return
        self._events += events
        self._size += size
        self.position = events[-1].position
        self._quiet = False
        self._wakeup.set()

    def mark_stale(self) -> None:
        """Have the follower read the file."""
        self.stale = True
        self._marked = True
        self._wakeup.set()

    def take(self) -> list[Event]:
        """Return the next queued events, and remove them. The follower has finished with those of
        before.
        """
        if self._yielded:
            self._change_behind(-self._yielded)
        events, self._events = self._events, []
        self._yielded = self._size
        if self._size > PAGE_BYTES:
            events, self._events = _split(events)
            self._yielded = frame_bytes(events)
        self._size -= self._yielded
        return events

    def begin_reading(self) -> None:
        """Note that the next page is being read from the file, until `end_reading`."""
        self._marked, self._unread, self._reading = False, 0, True

    def end_reading(self) -> None:
        """Note that the page was read, or could not be read."""
        self._reading = False

    def note_page(self, events: list[Event], end: EventId | None, unread: int) -> None:
        """Note what was read.

        :param end: position of the page's last row; None: the page was empty.
        :param unread: bytes in the file after the page.
        """
        if end:
            self.position = end
        elif not self._marked:
            self.stale = False
        self._yielded = frame_bytes(events)
        self._change_behind(self._yielded + unread + self._unread - self.behind)

    def tick(self) -> None:
        """Mark the queue stale if nothing was pushed since the last tick: a wake-up by another
        process may have been lost.
        """
        if self._quiet or self._expected:  # what was to be pushed may have failed
            self._expected.clear()
            self.mark_stale()
        self._quiet = True

    def wait(self) -> None:
        """Wait until events were pushed, or the queue was marked stale."""
        self._wakeup.wait()  # without a time-out: a timer for each event would cost more
        self._wakeup.clear()

    def close(self) -> None:
        """Count this follower no more."""
        self._change_behind(-self.behind)

    def _change_behind(self, size: int) -> None:
        self.behind += size
        self._backlog.add(size)


def frame_bytes(events: list[Event]) -> int:
    """Return how many bytes the frames of some events have."""
    return sum([event.wire_bytes for event in events])


def _split(events: list[Event]) -> tuple[list[Event], list[Event]]:
    """Return what to yield at once, and the rest."""
    size = 0
    for count, event in enumerate(events, 1):
        size += event.wire_bytes
        if size >= PAGE_BYTES:
            return events[:count], events[count:]
    return events, []
