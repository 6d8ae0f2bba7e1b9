"""How one process reads past events: from its window, or else from the broker, in turns."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from ...brokers.base import first_bytes
from ...core.events import Event
from ...errors import ServiceUnavailable
from ..delivery.replays import Replays
from ..read_queue import ReadQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from ...brokers.base import Broker
    from ...core.events import EventId
    from ...core.window import Window
    from ..read_queue import Reading

    T = TypeVar("T")

PAGE_BYTES = 64 << 10  # what a stream that catches up holds at once
_BEHIND_S, _BEHIND_CHECK_S = 5.0, 0.005  # how long the window may be behind the event log
_MAX_CONCURRENT_READS = 2  # hundreds at once would keep everything else from running


class LogReader:
    """Reads of past events wait in one queue. What was read is dropped before waiting for the next
    turn. All methods that read raise `ServiceUnavailable` where the event log cannot be read.

    :param max_replay_bytes: bytes that are being sent to all streams that catch up together.
    """

    def __init__(self, window: Window, broker: Broker, max_replay_bytes: int) -> None:
        self.window = window
        self.broker = broker
        self.replays = Replays(max_replay_bytes, lambda: self._queue.grant_turns())  # noqa: PLW0108 - made next
        self._queue = ReadQueue(_MAX_CONCURRENT_READS, self.replays.has_room)
        self._last_failure = 0.0

    def turn(
        self, reading: Reading, position: EventId | None = None
    ) -> AbstractContextManager[None]:
        """Wait for a turn of a reading, and have it inside the context.

        :param position: where the event log is read; None: at its end.
        :raises ReadingCancelled: the reading was cancelled.
        """
        return self._queue.turn(reading, position or self.window.head)

    def ask(self, reading: Reading, function: Callable[..., T], *values: object) -> T:
        """Call the broker, but not if a call failed after this reading began to wait: of many reads
        that wait for a broker that does not answer, only the first waits for its time-out.
        """
        if reading.asked < self._last_failure:
            detail = "The event log was unavailable a moment ago."
            raise ServiceUnavailable(detail, "Try again.")
        try:
            return function(*values)
        except ServiceUnavailable:
            self._last_failure = monotonic()
            raise

    def end(self, reading: Reading) -> EventId:
        """Return the position of the newest event in the event log, once the window has it.

        :raises ReadingCancelled: the reading was cancelled.
        """
        with self.turn(reading):
            head = self.ask(reading, self.broker.bounds).head
        until = monotonic() + _BEHIND_S
        while self.window.head < head:
            if monotonic() > until:
                detail = "This process has not read the newest events of the event log yet."
                raise ServiceUnavailable(detail, "Try again in a moment.")
            reading.wait(_BEHIND_CHECK_S)
        return head

    def before(
        self,
        reading: Reading,
        position: EventId,
        limit: int,
        topics: Sequence[str] | None = None,
    ) -> list[Event]:
        """Return some of the newest events before a position, in the event log's order.

        :param topics: only those that have one of these; None: all.
        """
        window, broker = self.window, self.broker
        # The event log may already hold newer events than the window.
        in_window = position <= window.head.next(0)
        if topics is None:
            found = window.before(position, limit) if in_window else []
            return found or self.ask(reading, broker.before, position, limit, PAGE_BYTES)
        found = list[Event]()
        if in_window:
            self.update_index(reading)
            found = window.before_with(position, limit, topics)
        return found or self.ask(reading, broker.before_topics, position, limit, PAGE_BYTES, topics)

    def update_index(self, reading: Reading) -> None:
        """Add all events to the window's index, before it is read by topic.

        :raises ReadingCancelled: the reading was cancelled.
        """
        for _ in reading.cooperative(self.window.update_index()):
            pass

    def at(self, reading: Reading, positions: Sequence[EventId]) -> list[Event]:
        """Return the first of the events at some positions, about a page, and what is left of those
        that were removed.

        :param positions: in order, at most `MAX_INDEX_TOPICS`.
        """
        if positions[0] > self.window.floor and positions[-1] <= self.window.head:
            return first_bytes(filter(None, map(self.window.entry_at, positions)), PAGE_BYTES)
        return self.ask(reading, self.broker.read_at, positions, PAGE_BYTES)

    def position_before(self, reading: Reading, position: EventId) -> EventId:
        """Return the position of the newest event before another position, or else the floor."""
        events = self.before(reading, position, 1)
        return events[0].position if events else self.floor(reading)

    def floor(self, reading: Reading) -> EventId:
        """Return the floor of the event log."""
        return self.ask(reading, self.broker.bounds).floor
