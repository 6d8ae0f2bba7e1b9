"""Follows the event log, and writes new events to the parked subscribers.

Why no event is lost or sent twice while subscribers park and wake up:

1. A stream parks at the moment at which it found nothing after its cursor (see `stream`). Its
   cursor is then at the head of the window, so it lies at or after the end of every batch whose
   delivery has begun by then.
2. A subscriber is sent only those events of a batch that lie after its cursor.
3. Its cursor is moved before its socket is written to. Whatever becomes of the write, nobody sends
   these events again: the stream itself sends the bytes that did not fit.
4. A subscriber that is not parked reads the batch itself, from its cursor on.
"""

from __future__ import annotations

import logging
from collections import defaultdict, deque
from time import monotonic
from typing import TYPE_CHECKING

from gevent.event import Event as Signal

from ..brokers.base import Gap
from ..core import sse
from ..core.sse import Payload
from ..scheduling import TimeSlice, sleep
from ..tasks import skip
from .late_feeds import LateFeeds
from .subscriber import deliver

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..brokers.base import Broker
    from ..core.events import Event, EventId
    from ..core.window import Window
    from ..metrics import Metrics
    from .feeds import Feed, FeedIndex
    from .subscriber import Subscriber

logger = logging.getLogger(__name__)

_BATCH_BYTES = 64 << 10  # delivered together
_SHORT_PASS_S = 0.001  # delivery to a few subscribers; a longer one is followed by a pause
_PAUSE_FACTOR = 3  # times as long as the pass took
_LONGEST_PAUSE_S = 0.025
_HEARTBEAT = Payload(sse.HEARTBEAT)
REFRESH_FRACTION = 1 / 4
"""Cursors are refreshed when this fraction of the window was replaced, or of its age has passed."""


class Dispatcher:
    """Writes to the parked subscribers of one process.

    :param window: the newest events of the log; `follow` fills it.
    :param subscribers: all whose streams are open.
    """

    def __init__(
        self,
        broker: Broker,
        window: Window,
        feeds: FeedIndex,
        subscribers: Iterable[Subscriber],
        metrics: Metrics,
    ) -> None:
        self.window = window
        self.dispatched_up_to = window.head
        """Every event up to here was delivered to the subscribers that were parked."""
        self.stale_before = window.head
        """A subscriber whose newest id lies before this position is sent a newer one."""
        self._broker = broker
        self._feeds = feeds
        self._subscribers = subscribers
        self._metrics = metrics
        self.late = LateFeeds(window, feeds, self)
        self._events_arrived, self._batch_sent = Signal(), Signal()
        self._arrival_times: deque[tuple[EventId, float]] = deque()  # of events up to a position
        self._pass_ended = self._pass_seconds = 0.0
        self._replaced = 0.0  # the fraction of the window that is newer than the last refresh

    def prefill(self, floor: EventId, events: Sequence[Event]) -> None:
        """Begin after some events that are in the log already.

        :param floor: the position before the first of them.
        """
        self.window.clear(floor)
        self.window.append(events)
        self.window.trim()
        self.dispatched_up_to = self.stale_before = self.window.head

    # Following the event log

    def follow(self) -> None:
        """Read new events into the window, until the log is closed."""
        for found in self._broker.follow(self.window.head):
            if isinstance(found, Gap):
                while self.dispatched_up_to < self.window.head:
                    self._await_batch()
                self._jump_gap(found)
                continue
            before = self.window.head
            self.window.append(found)
            self._arrival_times.append((self.window.head, monotonic()))
            self._events_arrived.set()
            # The window never drops what a parked subscriber has not been sent.
            self.window.trim(self.dispatched_up_to)
            # The rest is not read yet: then the broker knows how far behind this process is.
            while self.window.over_limit or self.dispatched_up_to < before:
                self._await_batch()
                self.window.trim(self.dispatched_up_to)

    def _await_batch(self) -> None:
        self._batch_sent.clear()
        self._batch_sent.wait()

    def _jump_gap(self, gap: Gap) -> None:
        """Go on after a gap in the event log, and tell every subscriber."""
        message = "the event log has a gap (%s): subscribers go on after %s"
        logger.error(message, gap.reason, gap.position)
        with self.late.step:
            self.late.clear()
            self.window.clear(gap.position)
            self._arrival_times.clear()
            self.dispatched_up_to = self.stale_before = gap.position
            for feed in self._feeds:
                feed.forget_unmatched()
            for subscriber in self._subscribers:
                subscriber.notify_gap(gap)

    # Delivering batches

    def dispatch(self) -> None:
        """Deliver what arrives; never returns."""
        while True:
            # Checked before it waits, too: after an error this begins again.
            while self.dispatched_up_to < self.window.head:
                self._pause()
                batch = self._next_batch()
                self._deliver_batch(batch)
                self._record_latency()
                self._refresh_when_due(batch)
            self._events_arrived.wait()
            self._events_arrived.clear()

    def _pause(self) -> None:
        """Pause after a long pass: more events then go out in one write, and publishers run."""
        if self._pass_seconds >= _SHORT_PASS_S:
            pause = min(_LONGEST_PAUSE_S, _PAUSE_FACTOR * self._pass_seconds)
            sleep(max(0.0, self._pass_ended + pause - monotonic()))

    def _next_batch(self) -> list[Event]:
        # Small enough for cursors to be refreshed in time.
        limit = max(1, round(self.window.max_events * REFRESH_FRACTION))
        return self.window.after(self.dispatched_up_to, _BATCH_BYTES)[:limit]

    def _deliver_batch(self, batch: list[Event]) -> None:
        began = monotonic()
        try:
            self._deliver(batch)
        except Exception as error:  # noqa: BLE001 - no event may end the dispatcher
            skip("dispatch", error)
            self.leave_to_streams(list(self._feeds), batch[-1].position)
        self.dispatched_up_to = batch[-1].position
        self._batch_sent.set()
        self._pass_ended = monotonic()
        self._pass_seconds = self._pass_ended - began

    def _record_latency(self) -> None:
        while self._arrival_times and self._arrival_times[0][0] <= self.dispatched_up_to:
            self._metrics.fanout_done(self._pass_ended - self._arrival_times.popleft()[1])

    def _deliver(self, batch: list[Event]) -> None:
        """Send each feed the events of the batch that it matches, as one payload."""
        parts: defaultdict[Feed, list[Event]] = defaultdict(list)
        envelope_cache: dict[EventId, bytes] = {}
        upto, pace = batch[-1].position, TimeSlice()
        for event in batch:
            for feed in self._feeds.candidates(event.draft.topics):
                # A subscriber that parks later has read the batch.
                if feed.parked and feed.matches(event):
                    parts[feed].append(event)
                pace.checkpoint()
        for feed, events in parts.items():
            self.send_part(feed, events, upto, pace, envelope_cache)
        if self._feeds.any_templates:
            self.late.take(batch, self.dispatched_up_to)

    def send_part(
        self,
        feed: Feed,
        events: Sequence[Event],
        upto: EventId,
        pace: TimeSlice,
        envelope_cache: dict[EventId, bytes],
    ) -> None:
        """Send a feed events that it matches.

        :param upto: the position up to which it matches no others.
        """
        try:
            feed.last_write = monotonic()
            first, last_id, count = events[0].position, events[-1].position, len(events)
            payload, sent = Payload(feed.render(events, envelope_cache)), 0
            for some in pace.chunks(list(feed.parked)):
                behind = [subscriber for subscriber in some if subscriber.cursor < first]
                sent += deliver(behind, payload, upto, last_id, count)
                if len(behind) < len(some):
                    self._deliver_rest(feed, events, upto, some)
            self._metrics.delivered(sent * count, sent * len(payload.raw))
        except Exception as error:  # noqa: BLE001 - the other feeds go on
            skip("dispatch", error)
            self.leave_to_streams([feed], upto)

    def _deliver_rest(
        self, feed: Feed, events: Sequence[Event], upto: EventId, subscribers: Iterable[Subscriber]
    ) -> None:
        """Send those subscribers whose cursor lies between some events the later ones of them."""
        last_id = events[-1].position
        for subscriber in subscribers:
            if subscriber.parked and subscriber.cursor < last_id:
                rest = [event for event in events if event.position > subscriber.cursor]
                payload = Payload(feed.render(rest, {}))
                deliver([subscriber], payload, upto, last_id, len(rest))
                self._metrics.delivered(len(rest), len(payload.raw))

    def leave_to_streams(self, feeds: Iterable[Feed], upto: EventId) -> None:
        """Wake the subscribers that were not sent their part of a batch. They read it themselves,
        and an event that cannot be read ends one stream only.
        """
        for feed in feeds:
            for subscriber in list(feed.parked):
                if subscriber.cursor < upto:
                    self.wake(feed, subscriber)

    # Everything else that parked subscribers are sent

    def sent_up_to(self, feed: Feed) -> EventId:
        """Return the position up to which a feed's parked subscribers were sent all events."""
        return feed.late_from or self.dispatched_up_to

    def wake(self, feed: Feed, subscriber: Subscriber) -> None:
        """Wake a subscriber of a feed if it is parked."""
        if subscriber.parked:
            subscriber.cursor = max(subscriber.cursor, self.sent_up_to(feed))
            subscriber.wake()

    def write(self, feed: Feed, subscriber: Subscriber, payload: Payload) -> None:
        """Send a subscriber of a feed a payload without ids of the event log, if it is parked."""
        if subscriber.parked:
            upto = max(subscriber.cursor, self.sent_up_to(feed))
            deliver([subscriber], payload, upto, subscriber.last_id_sent, 0)

    def send_heartbeats(self, silence: float) -> None:
        """Send a heartbeat to the feeds that were sent nothing for so many seconds."""
        now, pace = monotonic(), TimeSlice()
        for feed in list(self._feeds):
            if now - feed.last_write >= silence:
                feed.last_write = now
                for some in pace.chunks(list(feed.parked)):
                    for subscriber in some:
                        self.write(feed, subscriber, _HEARTBEAT)

    def _refresh_when_due(self, batch: list[Event]) -> None:
        self._replaced += self.window.fraction_of(batch)
        if self._replaced >= REFRESH_FRACTION:
            self.refresh_cursors()
            self._replaced = 0.0

    def refresh_cursors(self) -> None:
        """Send a newer id to those parked subscribers whose newest id is ageing.

        It runs each time a quarter of the window was replaced or a quarter of its age has passed,
        and a stream that parks with an older id sends a newer one itself. So the newest id that a
        client knows is never older than half a window.
        """
        # This loop yields, so both can change. If `dispatched_up_to` advanced, our mark may be
        # older than an id that a subscriber has; after a gap our mark is invalid.
        pace, position, before = TimeSlice(), self.dispatched_up_to, self.stale_before
        for feed in list(self._feeds):
            if late := feed.late_from:
                self._refresh_feed(feed, late, min(before, late), pace)
            else:
                self._refresh_feed(feed, position, before, pace)
        self.stale_before = self.dispatched_up_to

    def refresh_late(self, feed: Feed, since: EventId, position: EventId) -> None:
        """Send a feed the newer id that others were sent while it was late."""
        if since < self.stale_before:
            self._refresh_feed(feed, position, self.stale_before, TimeSlice())

    def _refresh_feed(
        self, feed: Feed, position: EventId, before: EventId, pace: TimeSlice
    ) -> None:
        mark = Payload(sse.encode("{}", type="hub.mark", id=str(position)))
        for subscriber in list(feed.parked):
            if subscriber.last_id_sent < min(before, self.stale_before):
                deliver([subscriber], mark, max(position, subscriber.cursor), position, 0)
            pace.checkpoint()
