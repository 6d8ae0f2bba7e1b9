"""Follows the event log, and delivers new events to the parked subscribers."""

from __future__ import annotations

import logging
from collections import defaultdict, deque
from time import monotonic, thread_time
from typing import TYPE_CHECKING

from gevent.event import Event as Signal

from ...brokers.base import Gap
from ...core.removals import RemovalEntry
from ...scheduling import IdleClock, TimeSlice, cooperative, sleep
from ...tasks import skip

if TYPE_CHECKING:
    from ...brokers.base import Broker
    from ...core.events import Event, EventId
    from ...core.removals import HeldPosition
    from ...core.window import Window
    from ...monitoring.metrics import Metrics
    from .fanout import FanOut
    from .feeds import Feed
    from .late_feeds import LateFeeds

logger = logging.getLogger(__name__)

_BATCH_BYTES = 64 << 10  # delivered together
_MAX_AHEAD_BYTES = 64 << 10  # not delivered, when the follower reads on
_SHORT_PASS_S = 0.001  # delivery to a few subscribers; a longer one may be followed by a pause
_PAUSE_FACTOR = 3  # times as long as the pass took
_LONGEST_PAUSE_S = 0.025
_LONGEST_BURST_PAUSE_S = 0.1  # while events come without a gap
_BURST_GAP_S = 0.005  # ends a burst
_IDLE_SHARE = 0.1  # of the time since a long pass began: if the worker was idle less, CPU is short
_GATHER_S = 0.002  # between two small batches that would follow each other closely
_GATHER_BYTES = 16 << 10  # of a small batch
_BUSY_SHARE = 0.5  # of the time since the last batch: if this thread ran for more, CPU is short
REFRESH_FRACTION = 1 / 4
"""Cursors are refreshed when this fraction of the window was replaced, or of its age has passed."""


class Dispatcher:
    """Takes new events from the event log to the subscribers of one process.

    :param window: the newest events of the event log; `follow` fills it.
    :param late: the feeds that are matched last: they are sent a batch after all others.
    """

    def __init__(
        self, broker: Broker, window: Window, fanout: FanOut, late: LateFeeds, metrics: Metrics
    ) -> None:
        self._broker = broker
        self._window = window
        self._fanout = fanout
        self._late = late
        self._metrics = metrics
        self._events_arrived, self._batch_sent = Signal(), Signal()
        self._is_delivering = False
        self._arrival_times: deque[tuple[EventId, float]] = deque()  # of events up to a position
        self._ahead_bytes = 0  # of events in the window that are not delivered
        self._pass_ended = self._pass_seconds = 0.0
        self._idle_clock = IdleClock()  # restarted at the end of a long pass
        self._read_at = self._read_cpu = 0.0  # when the latest batch was read: by two clocks
        self._replaced = 0.0  # the fraction of the window that is newer than the last refresh

    # Following the event log

    def follow(self) -> None:
        """Read new events into the window, until the event log is closed."""
        for found in self._broker.follow(self._window.head):
            if not isinstance(found, list):
                while self._fanout.dispatched_up_to < self._window.head:
                    self._await_batch()
                self._jump_gap(found) if isinstance(found, Gap) else self._skip_hidden(found)
                continue
            before = self._window.head
            self._window.append(found)
            size = sum([event.wire_bytes for event in found])
            self._ahead_bytes += size
            self._arrival_times.append((self._window.head, monotonic()))
            if self._pass_seconds < _SHORT_PASS_S:
                self._deliver_arrived()  # to wake the dispatcher takes as long as a short pass
            else:
                self._events_arrived.set()
            # The window never drops what a parked subscriber has not been sent.
            self._window.trim(self._fanout.dispatched_up_to)
            while self._window.over_limit or self._is_far_ahead(before):
                self._await_batch()
                self._window.trim(self._fanout.dispatched_up_to)
            if size < _GATHER_BYTES and self._pass_seconds < _SHORT_PASS_S:
                self._gather()

    def _gather(self) -> None:
        """Let more events come for the next batch if batches come fast and CPU is short: to read
        and deliver a batch of one event costs a third of a publish.
        """
        now, cpu = monotonic(), thread_time()
        elapsed, ran = now - self._read_at, cpu - self._read_cpu
        self._read_at, self._read_cpu = now, cpu
        if elapsed < 2 * _GATHER_S and ran > elapsed * _BUSY_SHARE:
            sleep(_GATHER_S)

    def _is_far_ahead(self, before: EventId) -> bool:
        """Whether to read no more now: then the broker knows how far behind this process is.

        :param before: the position before the latest events.
        """
        return self._ahead_bytes > _MAX_AHEAD_BYTES and self._fanout.dispatched_up_to < before

    def _await_batch(self) -> None:
        self._batch_sent.clear()
        self._batch_sent.wait()

    def _jump_gap(self, gap: Gap) -> None:
        """Continue after a gap in the event log, and wake every subscriber for `hub.reset`."""
        message = "the event log has a gap (%s): subscribers go on after %s"
        logger.error(message, gap.reason, gap.position)
        with self._late.step:
            self._late.clear()
            self._window.clear(gap.position)
            self._arrival_times.clear()
            self._ahead_bytes = 0
            self._fanout.jump_gap(gap)

    def _skip_hidden(self, entry: HeldPosition) -> None:
        """Skip an entry of the event log that is not an event, and apply it."""
        if isinstance(entry, RemovalEntry):
            self._remove(entry)
        self._window.append_hidden(entry)
        self._fanout.dispatched_up_to = entry.position

    def _remove(self, entry: RemovalEntry) -> None:
        """Remove events from the window, and from what subscribers have yet to be sent."""
        with self._late.step:
            for _ in cooperative(self._window.remove(entry.removal)):
                pass
        self._fanout.remove(entry.removal)

    # Delivering batches

    def dispatch(self) -> None:
        """Deliver what the follower does not deliver itself; never returns."""
        while True:
            self._deliver_arrived()  # before it waits, too: after an error this begins again
            self._events_arrived.wait()
            self._events_arrived.clear()

    def _deliver_arrived(self) -> None:
        """Deliver all that has arrived, unless that is being done already."""
        if self._is_delivering:
            return
        self._is_delivering = True
        try:
            while self._fanout.dispatched_up_to < self._window.head:
                self._pause()
                batch = self._next_batch()
                self._deliver_batch(batch)
                self._record_latency()
                self._refresh_when_due(batch)
        finally:
            self._is_delivering = False
            if self._fanout.dispatched_up_to < self._window.head:  # it failed
                self._events_arrived.set()

    def _pause(self) -> None:
        """Pause after a long pass if CPU is short, also for other processes: more events then go
        out in one write, and publishers run.
        """
        if self._pass_seconds < _SHORT_PASS_S:
            return
        elapsed = monotonic() - self._pass_ended
        if self._idle_clock.seconds() < _IDLE_SHARE * (self._pass_seconds + elapsed):
            pause = _PAUSE_FACTOR * self._pass_seconds
            sleep(max(0.0, min(_LONGEST_PAUSE_S, pause) - elapsed))
            self._pause_in_burst(self._pass_ended + min(_LONGEST_BURST_PAUSE_S, pause))

    def _pause_in_burst(self, until: float) -> None:
        """Pause longer during a burst, and not after its end."""
        head = None
        while head != self._window.head and (left := until - monotonic()) > 0:
            head = self._window.head
            sleep(min(_BURST_GAP_S, left))

    def _next_batch(self) -> list[Event]:
        # Small enough for cursors to be refreshed in time.
        limit = max(1, round(self._window.max_events * REFRESH_FRACTION))
        entries = self._window.entries_after(self._fanout.dispatched_up_to, _BATCH_BYTES)
        return entries[:limit]

    def _deliver_batch(self, batch: list[Event]) -> None:
        began = monotonic()
        try:
            self._deliver(batch)
        except Exception as error:  # noqa: BLE001 - no event may end the dispatcher
            skip("dispatch", error)
            self._fanout.leave_to_streams(list(self._fanout.feeds), batch[-1].position)
        self._fanout.wake_ended()
        self._fanout.dispatched_up_to = batch[-1].position
        self._ahead_bytes -= sum([event.wire_bytes for event in batch])
        if self._fanout.dispatched_up_to >= self._window.head:
            self._ahead_bytes = 0  # what expired meanwhile has no bytes any more
        self._batch_sent.set()
        self._pass_ended = monotonic()
        self._pass_seconds = self._pass_ended - began
        if self._pass_seconds >= _SHORT_PASS_S:
            self._idle_clock.restart()

    def _record_latency(self) -> None:
        while self._arrival_times and self._arrival_times[0][0] <= self._fanout.dispatched_up_to:
            self._metrics.fanout_seconds.note(self._pass_ended - self._arrival_times.popleft()[1])

    def _deliver(self, batch: list[Event]) -> None:
        """Send each feed the events of the batch that it matches, as one payload."""
        parts: defaultdict[Feed, list[Event]] = defaultdict(list)
        envelope_cache: dict[EventId, bytes] = {}
        upto, time_slice = batch[-1].position, TimeSlice()
        for event in batch:
            if event.is_hidden:  # it has expired meanwhile
                continue
            for feed in self._fanout.feeds.candidates(event.draft.topics):
                # A subscriber that parks later has read the batch.
                if feed.parked and feed.matches(event):
                    parts[feed].append(event)
                time_slice.checkpoint()
        for feed, events in parts.items():
            self._fanout.send(feed, events, upto, time_slice, envelope_cache)
        if self._fanout.feeds.matched_last:
            self._late.take(batch, self._fanout.dispatched_up_to)

    def _refresh_when_due(self, batch: list[Event]) -> None:
        self._replaced += self._window.fraction_of(batch)
        if self._replaced >= REFRESH_FRACTION:
            self._fanout.refresh_cursors()
            self._replaced = 0.0
