"""Follow the log, and hand what comes to the readers that are parked at its head."""

from __future__ import annotations

import logging
from collections import defaultdict, deque
from time import monotonic
from typing import TYPE_CHECKING

import gevent
from gevent.event import Event as Signal

from ..brokers.base import Gap
from ..core import sse
from ..core.events import Event, EventId
from ..core.sse import Payload
from ..core.window import Window
from ..scheduling import TimeSlice
from ..tasks import skip
from .late_feeds import LateFeeds
from .seat import deliver

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..brokers.base import Broker
    from ..metrics import Metrics
    from .feeds import Feed, FeedIndex
    from .subscriber import Subscriber

logger = logging.getLogger(__name__)

_BATCH_BYTES = 64 << 10  # what the dispatcher joins at once
_SHORT = 0.001  # seconds: a pass to a few readers
_GATHERING = 0.025  # seconds at most between two longer ones, and thrice what the first took
_POURING = 0.1  # the same, while events come without a pause
_PAUSE = 0.003  # seconds that make one
_FEW = 2  # pauses in which something came, that are no burst yet
_ANNOUNCED, _ANNOUNCED_BYTES = 10_000, 8 << 20  # for readers that are busy with older events
_ANNOUNCED_AT_ONCE_BYTES = 64 << 10  # handed over together
REFRESH_FRACTION = 1 / 4  # of the window, and of the age that the log keeps


class Dispatcher:
    """What the readers of one process have in common: the window, and their feeds.

    :param members: all readers whose streams are open.
    """

    def __init__(
        self,
        broker: Broker,
        window: Window,
        feeds: FeedIndex,
        members: Iterable[Subscriber],
        metrics: Metrics,
    ) -> None:
        self.window = window
        self.feeds = feeds
        self.dispatched_up_to = window.head
        """All up to here was handed to the readers that were parked."""
        self.stale_before = window.head
        """A reader whose newest id is older than this place is given a fresh one."""
        self.transient = Window(EventId(0, 0), _ANNOUNCED, _ANNOUNCED_BYTES)
        """The newest events that are in no log."""
        self._broker = broker
        self._members = members
        self._metrics = metrics
        self.late = LateFeeds(window, feeds, self)
        self._arrived, self._passed = Signal(), Signal()
        self._arrivals: deque[tuple[EventId, float]] = deque()  # up to which place, and when

    def follow(self) -> None:
        """Read the log into the window, until the log is closed."""
        for found in self._broker.follow(self.window.head):
            if isinstance(found, Gap):
                while self.dispatched_up_to < self.window.head:
                    self._await_pass()
                self._skip(found)
                continue
            self.window.append(found)
            self._arrivals.append((self.window.head, monotonic()))
            self._arrived.set()
            # The window never drops what a parked reader has not been sent.
            self.window.trim(self.dispatched_up_to)
            while self.window.over_limit:
                self._await_pass()
                self.window.trim(self.dispatched_up_to)

    def _await_pass(self) -> None:
        self._passed.clear()
        self._passed.wait()

    def _skip(self, gap: Gap) -> None:
        """Go on after a gap in the log, and let every reader know."""
        logger.error("the log has a gap (%s): readers go on after %s", gap.reason, gap.position)
        with self.late.step:
            self.late.clear()
            self.window.clear(gap.position)
            self._arrivals.clear()
            self.dispatched_up_to = self.stale_before = gap.position
            for subscriber in self._members:
                subscriber.lose(gap)

    def dispatch(self) -> None:
        """Hand what has arrived to the readers, for ever."""
        fresh = 0.0  # the part of the window that was filled anew since the last renewal
        ended = spent = 0.0
        while True:
            # Looked at before it waits, too: it may begin anew after an error.
            while self.dispatched_up_to < self.window.head:
                batch = self._batch() if spent < _SHORT else self._gathered(ended, 3 * spent)
                began = monotonic()
                try:
                    self._send(batch)
                except Exception as error:  # noqa: BLE001 - no event may end the dispatcher
                    skip("dispatch", error)
                    self.leave_to_readers(list(self.feeds), batch[-1].position)
                self.dispatched_up_to = batch[-1].position
                self._passed.set()
                ended = monotonic()
                spent = ended - began
                while self._arrivals and self._arrivals[0][0] <= self.dispatched_up_to:
                    self._metrics.fanout_done(ended - self._arrivals.popleft()[1])
                fresh += self.window.fraction_of(batch)
                if fresh >= REFRESH_FRACTION:
                    self.renew()
                    fresh = 0.0
            self._arrived.wait()
            self._arrived.clear()

    def _batch(self) -> list[Event]:
        # Short enough for cursors to be renewed in time.
        most = max(1, round(self.window.max_events * REFRESH_FRACTION))
        return self.window.after(self.dispatched_up_to, _BATCH_BYTES)[:most]

    def _gathered(self, since: float, longest: float) -> list[Event]:
        """Rest from the last pass: under load more goes out in one write, and publishers have
        their turn. It takes longer while events pour in that make one batch, and ends with them.

        :param since: when that pass was over; what comes after its rest need not wait.
        :param longest: seconds that it lasts at most.
        """
        rest, pouring = min(_GATHERING, longest), min(_POURING, longest)
        batch, looks = self._batch(), 0
        while True:
            full = batch[-1].position < self.window.head
            left = since + (pouring if looks and not full else rest) - monotonic()
            if left <= 0:
                return batch
            self._arrived.clear()
            pause = min(_PAUSE, left)
            if self._arrived.wait(pause if looks or full else left):
                gevent.sleep(pause)
                batch, looks = self._batch(), looks + 1
            elif full or looks > _FEW:
                return batch
            else:
                looks = 0

    def _send(self, batch: list[Event]) -> None:
        """Give each feed the part of the batch that it sees, as one payload for all its readers.

        The hand-over: a reader parks with its cursor at the head of the window in the same
        breath in which it found nothing more to read, so its cursor is at or after the end of
        any batch that was begun before. A reader is given only what lies after its cursor, and
        its cursor is moved before it is woken. Whoever is not parked reads the batch itself.
        """
        parts: defaultdict[Feed, list[Event]] = defaultdict(list)
        made: dict[EventId, bytes] = {}
        upto, pace = batch[-1].position, TimeSlice()
        for event in batch:
            for feed in self.feeds.candidates(event.draft.topics):
                # One that nobody is parked in now can only gain readers that need no more.
                if feed.parked and feed.matches(event):
                    parts[feed].append(event)
                pace.checkpoint()
        for feed, events in parts.items():
            self.send_part(feed, events, upto, pace, made)
        if self.feeds.any_templates:
            self.late.take(batch, self.dispatched_up_to)

    def send_part(
        self,
        feed: Feed,
        events: Sequence[Event],
        upto: EventId,
        pace: TimeSlice,
        made: dict[EventId, bytes],
    ) -> None:
        """Give a feed's readers events that they see, which are all up to a position."""
        try:
            feed.last_write = monotonic()
            first, last_id_sent, count = events[0].position, events[-1].position, len(events)
            payload, given = Payload(feed.frames(events, made)), 0
            for some in pace.chunks(list(feed.parked)):
                behind = [subscriber for subscriber in some if subscriber.cursor < first]
                given += deliver(behind, payload, upto, last_id_sent, count)
                if len(behind) < len(some):
                    self._complete(feed, events, upto, some)
            self._metrics.delivered(given * count, given * len(payload.raw))
        except Exception as error:  # noqa: BLE001 - the other feeds go on
            skip("dispatch", error)
            self.leave_to_readers([feed], upto)

    def leave_to_readers(self, feeds: Iterable[Feed], upto: EventId) -> None:
        """Let those who were not given their part of a batch read it themselves: nothing is lost,
        and what cannot be read ends one stream only.
        """
        for feed in feeds:
            for subscriber in list(feed.parked):
                if subscriber.cursor < upto:
                    subscriber.look_again()

    def _complete(
        self, feed: Feed, events: Sequence[Event], upto: EventId, subscribers: Sequence[Subscriber]
    ) -> None:
        """Give the rest of some events to those readers that parked between them."""
        last_id_sent = events[-1].position
        for subscriber in subscribers:
            if subscriber.parked and subscriber.cursor < last_id_sent:
                rest = [event for event in events if event.position > subscriber.cursor]
                part = Payload(feed.frames(rest, {}))
                deliver([subscriber], part, upto, last_id_sent, len(rest))
                self._metrics.delivered(len(rest), len(part.raw))

    def renew(self) -> None:
        """Give those readers a fresh cursor whose last id is ageing in a log that moves on.

        It runs each time a quarter of the window was filled anew or a quarter of its age has
        passed, and a reader that parks with an older cursor renews it itself: what a reader
        knows is never older than half a window.
        """
        # Both move while this gives way: on, where an older place is no mark for who was told of a
        # newer one, or back behind a gap, where it is a mark for nobody.
        pace, position, before = TimeSlice(), self.dispatched_up_to, self.stale_before
        for feed in list(self.feeds):
            if late := feed.late_from:
                self._renew_feed(feed, late, min(before, late), pace)
            else:
                self._renew_feed(feed, position, before, pace)
        self.stale_before = self.dispatched_up_to

    def renew_late(self, feed: Feed, since: EventId, position: EventId) -> None:
        """Give a feed's readers the cursor that others were given while it was late."""
        if since < self.stale_before:
            self._renew_feed(feed, position, self.stale_before, TimeSlice())

    def _renew_feed(self, feed: Feed, position: EventId, before: EventId, pace: TimeSlice) -> None:
        mark = Payload(sse.encode("{}", type="hub.mark", id=str(position)))
        for subscriber in list(feed.parked):
            if subscriber.last_id_sent < min(before, self.stale_before):
                deliver([subscriber], mark, max(position, subscriber.cursor), position, 0)
            pace.checkpoint()

    def deliver_announced(self, events: Iterable[Event]) -> None:
        """Hand events that are in no log to those who may see them: to parked readers now, to
        others when they park. It is done in parts of bounded bytes, and yields to the loop. To be
        called by one greenlet only.
        """
        part, size, pace = list[Event](), 0, TimeSlice()
        for event in events:
            part.append(event)
            size += event.wire_bytes
            if size >= _ANNOUNCED_AT_ONCE_BYTES:
                self._announce(part, pace)
                part, size = [], 0
            pace.checkpoint()
        if part:
            self._announce(part, pace)

    def _announce(self, events: list[Event], pace: TimeSlice) -> None:
        self.transient.append(events)
        self.transient.trim()
        made: dict[EventId, bytes] = {}
        first, upto = events[0].position, events[-1].position
        for feed in list(self.feeds.presence_feeds):
            if not feed.parked:  # who parks later has them
                continue
            seen = list[Event]()
            for event in events:
                if feed.matches(event):
                    seen.append(event)
                pace.checkpoint()
            payload = Payload(feed.frames(seen, made))
            for subscriber in list(feed.parked):
                # One that parked since has them.
                if subscriber.transient_position < first:
                    subscriber.tell(payload, upto)
                pace.checkpoint()

    def reset_transient(self) -> None:
        """Let those who may see them know that some are missing."""
        self.transient.clear(self.transient.head.next(0))
        for feed in list(self.feeds.presence_feeds):
            for subscriber in list(feed.parked):
                subscriber.look_again()
