"""Deliver transient events, which are the presence events: no event log has them.

Each is sent once. A window keeps the newest for subscribers that are busy with older events. A
subscriber that missed more than the window holds gets `hub.reset` with the reason `presence`.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from ..core.events import Event, EventId
from ..core.window import Window
from ..scheduling import TimeSlice

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .delivery.fanout import FanOut
    from .delivery.feeds import Feed
    from .delivery.subscriber import Subscriber
    from .reads.start import Start

_WINDOW_EVENTS, _WINDOW_BYTES = 10_000, 8 << 20
_BATCH_BYTES = 64 << 10  # matched and delivered together
_PAGE_BYTES = 64 << 10  # of missed events, read at once
_BEFORE_ALL = EventId(-1, 0)


class TransientEvents:
    """Delivers transient events to the subscribers that may see them."""

    def __init__(self, fanout: FanOut) -> None:
        self.window = Window(EventId(0, 0), _WINDOW_EVENTS, _WINDOW_BYTES)
        self._fanout = fanout

    @property
    def head(self) -> EventId:
        """The position of the newest transient event."""
        return self.window.head

    @property
    def wanted(self) -> bool:
        """Whether any subscriber may see transient events."""
        return bool(self._fanout.feeds.presence_feeds)

    def begin(self, feed: Feed, start: Start) -> EventId:
        """Return the position after which a new subscriber is sent transient events. A subscriber
        with a cursor may have missed some: it gets a reset. Without control events, the headers of
        its stream say so instead.
        """
        return _BEFORE_ALL if start.cursor and feed.form.control else self.head

    def deliver(self, events: Iterable[Event]) -> None:
        """Send events to the parked subscribers that may see them; the others look for them before
        they park. It yields to the loop, and takes the events in batches of bounded bytes. Only
        one greenlet at a time may call it.
        """
        batch, size, time_slice = list[Event](), 0, TimeSlice()
        for event in events:
            batch.append(event)
            size += event.wire_bytes
            if size >= _BATCH_BYTES:
                self._deliver_batch(batch, time_slice)
                batch, size = [], 0
            time_slice.checkpoint()
        if batch:
            self._deliver_batch(batch, time_slice)

    def _deliver_batch(self, events: list[Event], time_slice: TimeSlice) -> None:
        self.window.append(events)
        self.window.trim()
        envelope_cache: dict[EventId, bytes] = {}
        first, last = events[0].position, events[-1].position
        for feed in list(self._fanout.feeds.presence_feeds):
            if not feed.parked:  # a subscriber that parks later has read them before
                continue
            seen = list[Event]()
            for event in events:
                if feed.matches(event):
                    seen.append(event)
                time_slice.checkpoint()
            raw = feed.render(seen, envelope_cache)
            with feed.payload(raw) if raw else nullcontext() as payload:
                for subscriber in list(feed.parked):
                    # A subscriber that parked meanwhile has read them.
                    if subscriber.parked and subscriber.transient_position < first:
                        subscriber.transient_position = last
                        if payload:
                            self._fanout.write(feed, subscriber, payload)
                    time_slice.checkpoint()

    def reset(self) -> None:
        """Drop all events: subscribers that may see them are woken, and get `hub.reset`."""
        self.window.clear(self.head.next(0))
        for feed in list(self._fanout.feeds.presence_feeds):
            for subscriber in list(feed.parked):
                self._fanout.wake(feed, subscriber)

    def misses(self, subscriber: Subscriber, feed: Feed) -> bool:
        """Whether there are transient events that a subscriber of the feed has not looked at."""
        return feed.wants_presence and subscriber.transient_position < self.head

    def next_missed(self, subscriber: Subscriber, feed: Feed) -> bytes | None:
        """Return the next events that a subscriber missed, which may be none; None: the window does
        not hold all of them any more. It may yield to the loop.
        """
        while self.misses(subscriber, feed):
            if subscriber.transient_position < self.window.floor:
                subscriber.transient_position = self.head
                return None
            events = self.window.after(subscriber.transient_position, _PAGE_BYTES)
            subscriber.transient_position = events[-1].position
            if frames := feed.render(filter(feed.matches, events), {}):
                return frames
        return b""
