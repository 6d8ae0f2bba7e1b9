"""Writes to the parked subscribers of one process (fan-out). Nothing here waits for a client.

Why no event is lost or sent twice while subscribers park and wake up:

1. A stream parks at the moment at which it found nothing after its cursor (see `stream`). Its
   cursor is then at the head of the window, so it lies at or after the end of every batch whose
   delivery has begun by then.
2. A subscriber is sent only those events of a batch that lie after its cursor.
3. Between the write to its socket and the move of its cursor nothing yields to the event loop. If
   the socket took only a part, the stream itself sends the rest of these bytes, or ends.
4. A subscriber that is not parked reads the batch itself, from its cursor on.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from ...core import sse
from ...scheduling import TimeSlice
from ...tasks import skip
from .removals import AFTER_ALL, Removals, may_concern

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from ...brokers.base import Gap
    from ...core.events import Event, EventId
    from ...core.removals import Removal
    from ...core.sse import Payload
    from ...monitoring.metrics import Metrics
    from .feed_index import FeedIndex
    from .feeds import Feed
    from .replays import Replays
    from .subscriber import Subscriber


class FanOut:
    """Writes to parked subscribers. The stream of one whose socket did not take all of it, or that
    has no socket, is woken and sends the rest.

    :param feeds: those that have subscribers.
    :param subscribers: all whose streams are open.
    :param replays: counts the bytes that wait for slow clients.
    """

    def __init__(
        self,
        feeds: FeedIndex,
        subscribers: Collection[Subscriber],
        replays: Replays,
        metrics: Metrics,
        position: EventId,
    ) -> None:
        self.dispatched_up_to = position
        """Every event up to here was delivered to the subscribers that were parked."""
        self.stale_before = position
        """A subscriber whose newest id lies before this position is sent a newer one."""
        self.removals = Removals()
        self._ended: list[Feed] = []  # whose subscribers are to be woken
        self.feeds = feeds
        self._subscribers = subscribers
        self._replays = replays
        self._metrics = metrics

    def __len__(self) -> int:
        """Return how many streams are open."""
        return len(self._subscribers)

    def begin_at(self, position: EventId) -> None:
        """Begin after a position."""
        self.dispatched_up_to = self.stale_before = position

    def jump_gap(self, gap: Gap) -> None:
        """Continue after a gap in the event log, and wake every subscriber for `hub.reset`."""
        self.begin_at(gap.position)
        for feed in self.feeds:
            feed.forget_unmatched()
        for subscriber in self._subscribers:
            subscriber.notify_gap(gap)

    def remove(self, removal: Removal) -> None:
        """Cut off the subscribers that have yet to be sent bytes which may contain what a removal
        has removed from the window. Their clients come back with their cursors.
        """
        self.removals.add(removal)
        for some in TimeSlice().chunks(list(self._subscribers)):
            for subscriber in some:
                if subscriber.sending and may_concern(removal, *subscriber.sending):
                    subscriber.drop_unsent()

    def sent_up_to(self, feed: Feed) -> EventId:
        """Return the position up to which a feed's parked subscribers were sent all events."""
        return feed.late_from or self.dispatched_up_to

    # Events

    def send(
        self,
        feed: Feed,
        events: Sequence[Event],
        upto: EventId,
        time_slice: TimeSlice,
        envelope_cache: dict[EventId, bytes],
    ) -> None:
        """Send a feed events that it matches.

        :param upto: the position up to which it matches no others.
        """
        try:
            feed.last_write, has_end = monotonic(), feed.note_ends(events)
            first, last_id = events[0].position, events[-1].position
            raw, sent = feed.render(events, envelope_cache), 0
            with feed.payload(raw, len(events), time_slice.checkpoint) as payload:
                for some in time_slice.chunks(list(feed.parked)):
                    behind = [subscriber for subscriber in some if subscriber.cursor < first]
                    sent += self._deliver(feed, behind, payload, upto, last_id)
                    if len(behind) < len(some):
                        self._send_rest(feed, events, upto, some)
            if feed.is_counted:
                self._metrics.delivered.add(sent * len(events))
                self._metrics.delivered_bytes.add(sent * len(raw))
            if has_end:
                self._ended.append(feed)
        except Exception as error:  # noqa: BLE001 - the other feeds go on
            skip("dispatch", error)
            self.leave_to_streams([feed], upto)

    def wake_ended(self) -> None:
        """Wake the subscribers that were sent the end of a topic: they look whether all their
        topics have ended. It is called after a batch, so that the events behind the ends do not
        wait for these streams.
        """
        feeds, self._ended = self._ended, []
        time_slice = TimeSlice()
        for feed in feeds:
            for some in time_slice.chunks(list(feed.parked)):
                for subscriber in some:
                    self.wake(feed, subscriber)

    def _send_rest(
        self, feed: Feed, events: Sequence[Event], upto: EventId, subscribers: Iterable[Subscriber]
    ) -> None:
        """Send the later ones of some events to the subscribers whose cursor lies between them."""
        last_id = events[-1].position
        for subscriber in subscribers:
            if subscriber.parked and subscriber.cursor < last_id:
                rest = [event for event in events if event.position > subscriber.cursor]
                raw = feed.render(rest, {})
                payload = feed.payload_for_one(raw, len(rest))
                self._deliver(feed, [subscriber], payload, upto, last_id)
                if feed.is_counted:
                    self._metrics.delivered.add(len(rest))
                    self._metrics.delivered_bytes.add(len(raw))

    def leave_to_streams(self, feeds: Iterable[Feed], upto: EventId) -> None:
        """Wake the subscribers that were not sent all events up to a position. They read them
        themselves, and an event that cannot be read ends one stream only.
        """
        for feed in feeds:
            for subscriber in list(feed.parked):
                if subscriber.cursor < upto:
                    self.wake(feed, subscriber)

    # Everything else that parked subscribers are sent

    def wake(self, feed: Feed, subscriber: Subscriber) -> None:
        """Wake a subscriber of a feed if it is parked."""
        if subscriber.parked:
            subscriber.cursor = max(subscriber.cursor, self.sent_up_to(feed))
            subscriber.wake()

    def write(self, feed: Feed, subscriber: Subscriber, payload: Payload) -> None:
        """Send a subscriber of a feed a payload without ids of the event log, if it is parked."""
        upto = max(subscriber.cursor, self.sent_up_to(feed))
        self._deliver(feed, [subscriber], payload, upto, subscriber.last_id_sent)

    def send_heartbeats(self, silence: float) -> None:
        """Send a heartbeat to the feeds that were sent nothing for so many seconds."""
        now, time_slice = monotonic(), TimeSlice()
        for feed in list(self.feeds):
            if now - feed.last_write >= silence:
                feed.last_write = now
                with feed.payload(sse.HEARTBEAT) as heartbeat:
                    for some in time_slice.chunks(list(feed.parked)):
                        for subscriber in some:
                            self.write(feed, subscriber, heartbeat)

    def refresh_cursors(self) -> None:
        """Send a newer id to those parked subscribers whose newest id is ageing.

        It runs each time a quarter of the window was replaced or a quarter of its age has passed,
        and a stream that parks with an older id sends a newer one itself. So the newest id that a
        client knows is never older than half a window.
        """
        # This loop yields, so both can change. If `dispatched_up_to` advanced, our mark may be
        # older than an id that a subscriber has; after a gap our mark is invalid.
        time_slice, position, before = TimeSlice(), self.dispatched_up_to, self.stale_before
        for feed in list(self.feeds):
            if late := feed.late_from:
                self._refresh_feed(feed, late, min(before, late), time_slice)
            else:
                self._refresh_feed(feed, position, before, time_slice)
        self.stale_before = self.dispatched_up_to

    def refresh_late(self, feed: Feed, since: EventId, position: EventId) -> None:
        """Send a feed the newer id that others were sent while it was late."""
        if since < self.stale_before:
            self._refresh_feed(feed, position, self.stale_before, TimeSlice())

    def _refresh_feed(
        self, feed: Feed, position: EventId, before: EventId, time_slice: TimeSlice
    ) -> None:
        if not feed.form.control:
            return
        raw = sse.encode("{}", type="hub.mark", id=str(position))
        for_all = all(subscriber.last_id_sent < before for subscriber in feed.parked)
        with feed.payload(raw) if for_all else feed.payload_for_one(raw) as mark:
            for subscriber in list(feed.parked):
                if subscriber.last_id_sent < min(before, self.stale_before):
                    upto = max(position, subscriber.cursor)
                    self._deliver(feed, [subscriber], mark, upto, position)
                time_slice.checkpoint()

    # The sockets

    def _deliver(
        self,
        feed: Feed,
        subscribers: Sequence[Subscriber],
        payload: Payload,
        upto: EventId,
        last_id: EventId,
    ) -> int:
        """Write a payload to the sockets of those subscribers of a feed that are parked.

        :param upto: they have then been sent every event up to here that they may see.
        :param last_id: the newest id that their clients then know.
        :returns: how many were sent the payload, or will be.
        """
        count, form, other_form, woken = 0, payload, payload.other_form(), []
        for subscriber in subscribers:
            if not subscriber.parked:
                continue
            if other_form is not None:
                form = other_form(subscriber) or payload
            data = form.chunked if subscriber.chunked else form.raw
            send = subscriber.send  # `subscriber.send(…)` would search for a method first
            try:
                sent = send(subscriber.sock, data)
            except OSError:  # the buffer is full or the client has disconnected
                sent = 0
            except Exception as error:  # noqa: BLE001 - a fault of one socket ends one stream only
                skip("send", error)
                subscriber.end("error")
                continue
            if sent != len(data):
                if not self._keep_unsent(feed, subscriber, payload, data, sent):
                    continue
                woken.append(subscriber)
            subscriber.cursor = upto
            subscriber.last_id_sent = last_id
            subscriber.events_sent += payload.event_count
            count += 1
        payload.note_sent(subscribers)
        for subscriber in woken:
            subscriber.wake()
        return count

    def _keep_unsent(
        self, feed: Feed, subscriber: Subscriber, payload: Payload, data: bytes, sent: int
    ) -> bool:
        """Keep what did not fit, for the stream to send. False: there is no memory for it, so the
        stream reads the events again, or ends if a part of the payload was sent.
        """
        subscriber.unsent_frame = self._replays.hold_live(subscriber.client, data)
        if subscriber.unsent_frame is None:
            if sent or not payload.event_count:
                subscriber.cut_off()
            else:
                self.wake(feed, subscriber)
            return False
        subscriber.sending = subscriber.cursor, AFTER_ALL
        # A view: however many subscribers are slow, there is one payload.
        subscriber.unsent = memoryview(data)[sent:] if sent else data
        return True
