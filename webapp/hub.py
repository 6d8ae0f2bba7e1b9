"""Follow the log, fan it out, let readers park at its head, say goodbye to them."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from time import monotonic, time
from typing import TYPE_CHECKING

import gevent
from gevent.event import Event as Signal
from gevent.lock import RLock

from webapp import wire
from webapp.brokers.base import Gap
from webapp.errors import Unavailable
from webapp.events import EventId
from webapp.feeds import Feeds
from webapp.history import History
from webapp.limits import Room
from webapp.pace import Pace
from webapp.subscription import Subscription
from webapp.window import Window
from webapp.wire import Payload

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from webapp.auth import Grant
    from webapp.brokers.base import Broker
    from webapp.events import Draft, Event
    from webapp.feeds import Feed
    from webapp.history import Start
    from webapp.settings import Settings

log = logging.getLogger(__name__)

_BATCH_BYTES = 64 << 10  # what the dispatcher joins at once
_SHORT = 0.001  # seconds: a pass to a few readers
_GATHERING = 0.025  # seconds at most between two longer ones, and thrice what the first took
_RENEWAL = 1 / 4  # of the window, and of the age that the log keeps


class Hub:
    """The one object that readers and publishers meet in; one a process.

    :param max_readers: how many streams may be open at once; 0: any number.
    """

    window: Window
    history: History
    dispatched: EventId
    """All up to here was handed to the readers that were parked."""
    renew_before: EventId
    """A reader whose newest id is older than this place is given a fresh one."""

    def __init__(self, broker: Broker, settings: Settings, max_readers: int) -> None:
        self.broker = broker
        self.settings = settings
        self.draining = False
        self.failed = False
        self.observers: list[Callable[[Subscription, bool], None]] = []
        self.ended: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.room = Room(max_readers, settings.max_subscribers_per_ip)
        self._members: set[Subscription] = set()
        self._feeds = Feeds()
        self._tasks: list[gevent.Greenlet[[], None]] = []
        self._arrived, self._passed = Signal(), Signal()
        self._starting = RLock()

    def start(self) -> None:
        """Begin to follow the log, unless that was done.

        :raises Unavailable: the log cannot be reached; it may be tried again.
        """
        if self._tasks:
            return
        with self._starting:
            if not self._tasks:
                self._begin()

    def _begin(self) -> None:
        self.window = self._recalled(self.broker.bounds().head)
        self.history = History(self.window, self.broker)
        self.dispatched = self.renew_before = self.window.head
        self._tasks = [gevent.spawn(task) for task in (self._follow, self._dispatch, self._tick)]
        for task in self._tasks:
            task.link_exception(self._fail)

    def _recalled(self, head: EventId) -> Window:
        """Return a window that holds what it would hold had this process been here all the time:
        after a deploy all readers come back at once, and need not all ask the log.
        """
        limits = self.settings
        # Never more than the log keeps: what it dropped is gone here too.
        most = min(limits.window_events, limits.history_events)
        size = min(limits.window_bytes, limits.history_bytes)
        events = self.broker.before(head.next(0), most, size)
        window = Window(events[0].place if events else head, most, size)
        window.append(events[1:])
        window.trim()
        return window

    def _fail(self, task: gevent.Greenlet[[], None]) -> None:
        # It would beat for ever and deliver nothing: better that its process starts anew.
        self.failed = True
        log.critical("the hub is broken", exc_info=task.exception)

    def stop(self) -> None:
        """Stop following the log and let go of it."""
        self.broker.close()
        gevent.killall(self._tasks)

    def __len__(self) -> int:
        return len(self._members)

    # Publishing

    def publish(self, drafts: Sequence[Draft]) -> list[Event]:
        """Put all drafts in the log, or none; they are in it when this returns.

        :raises Conflict: an own id is taken by other content.
        :raises Unavailable: the log cannot be reached.
        """
        self.start()
        return self.broker.append(drafts)

    # Subscribing

    def subscribe(
        self, selectors: frozenset[str], grant: Grant, start: Start, client: str = ""
    ) -> Subscription:
        """Settle all that can fail about a new reader.

        :raises Unavailable: the hub is full or stopping, or the log cannot be reached.
        :raises TooMany: the client has as many streams as it may.
        """
        self.start()
        if self.draining:
            detail = "The hub is stopping."
            raise Unavailable(detail, "Come back in a moment.", reason="drain")
        self.room.check(client)
        feed = self._feeds.get(selectors, grant.subscribe)
        place, lost = self.history.place(start, feed.sees)
        self.room.check(client)  # others came while the log was asked
        reader = Subscription(self, feed, place, lost=lost, expires=grant.expires)
        reader.client = client
        return reader

    def join(self, reader: Subscription) -> None:
        """Count a reader whose stream opens; `leave` must follow, whatever happens."""
        reader.feed = self._feeds.enter(reader.feed)
        self._members.add(reader)
        self.room.enter(reader.client)
        if self.draining:
            reader.end("drain")
        self._observe(reader, opened=True)

    def leave(self, reader: Subscription) -> None:
        """Forget a reader whose stream has ended."""
        reader.feed.parked.discard(reader)
        self._members.discard(reader)
        self.room.leave(reader.client)
        self._feeds.leave(reader.feed)
        self.ended[reader.reason or "error"] += 1
        self._observe(reader, opened=False)

    def drain(self) -> None:
        """Take no new readers and say goodbye to those that are here."""
        self.draining = True
        for reader in list(self._members):
            reader.end("drain")

    def _observe(self, reader: Subscription, *, opened: bool) -> None:
        for observer in self.observers:
            observer(reader, opened)

    # Fanning out

    def _follow(self) -> None:
        for found in self.broker.follow(self.window.head):
            if isinstance(found, Gap):
                while self.dispatched < self.window.head:
                    self._await_pass()
                self._skip(found)
                continue
            self.window.append(found)
            self._arrived.set()
            # The window never drops what a parked reader has not been sent.
            self.window.trim(self.dispatched)
            while self.window.over:
                self._await_pass()
                self.window.trim(self.dispatched)

    def _await_pass(self) -> None:
        self._passed.clear()
        self._passed.wait()

    def _skip(self, gap: Gap) -> None:
        """Go on after a gap in the log, and let every reader know."""
        log.error("the log has a gap (%s): readers go on after %s", gap.reason, gap.place)
        self.window.clear(gap.place)
        self.dispatched = self.renew_before = gap.place
        for reader in self._members:
            reader.lose(gap)

    def _dispatch(self) -> None:
        fresh = 0.0  # the part of the window that was filled anew since the last renewal
        while True:
            self._arrived.wait()
            self._arrived.clear()
            # Short enough for cursors to be renewed in time.
            most = max(1, round(self.window.max_events * _RENEWAL))
            while batch := self.window.since(self.dispatched, _BATCH_BYTES)[:most]:
                began = monotonic()
                self._send(batch)
                self.dispatched = batch[-1].place
                self._passed.set()
                if (spent := monotonic() - began) > _SHORT:
                    # Under load more goes out in one write, and publishers have their turn.
                    gevent.sleep(min(_GATHERING, 3 * spent))
                fresh += self.window.share(batch)
                if fresh >= _RENEWAL:
                    self._renew()
                    fresh = 0.0

    def _send(self, batch: list[Event]) -> None:
        """Give each feed the part of the batch that it sees, as one payload for all its readers.

        The hand-over: a reader parks with its cursor at the head of the window in the same
        breath in which it found nothing more to read, so its cursor is at or after the end of
        any batch that was begun before. A reader is given only what lies after its cursor, and
        its cursor is moved before it is woken. Whoever is not parked reads the batch itself.
        """
        parts: defaultdict[Feed, list[Event]] = defaultdict(list)
        upto, pace = batch[-1].place, Pace()
        for event in batch:
            for feed in self._feeds.asked_for(event.draft.topics):
                # One that nobody is parked in now can only gain readers that need no more.
                if feed.parked and feed.sees(event):
                    parts[feed].append(event)
                pace.keep()
        for feed, events in parts.items():
            feed.last_write = monotonic()
            first, told, count = events[0].place, events[-1].place, len(events)
            payload = _joined(events)
            for reader in list(feed.parked):
                if reader.cursor < first:
                    reader.give(payload, upto, told, count)
                elif reader.cursor < told:
                    rest = [event for event in events if event.place > reader.cursor]
                    reader.give(_joined(rest), upto, told, len(rest))
                pace.keep()

    def _renew(self) -> None:
        """Give those readers a fresh cursor whose last id is ageing in a log that moves on.

        It runs each time a quarter of the window was filled anew or a quarter of its age has
        passed, and a reader that parks with an older cursor renews it itself: what a reader
        knows is never older than half a window.
        """
        # Both move while this gives way: on, where an older place is no mark for who was told of a
        # newer one, or back behind a gap, where it is a mark for nobody.
        pace, place, before = Pace(), self.dispatched, self.renew_before
        mark = wire.Payload(wire.frame("{}", type="hub.mark", id=str(place)))
        for feed in list(self._feeds):
            for reader in list(feed.parked):
                if reader.told < min(before, self.renew_before):
                    reader.give(mark, max(place, reader.cursor), place, 0)
                pace.keep()
        self.renew_before = self.dispatched

    def _tick(self) -> None:
        """Beat for the feeds that are silent, and end the streams whose time is over."""
        silence, renewed = self.settings.heartbeat, monotonic()
        while True:
            gevent.sleep(min(1.0, silence / 4))
            pace, now = Pace(), monotonic()
            self._forget_old()
            if now - renewed >= self.settings.history_age * _RENEWAL:
                self._renew()
                renewed = now
            for feed in list(self._feeds):
                if now - feed.last_write >= silence:
                    feed.last_write = now
                    for reader in list(feed.parked):
                        reader.beat()
                        pace.keep()
            for reader in list(self._members):
                reader.check_deadline(now)
                pace.keep()

    def _forget_old(self) -> None:
        oldest = EventId(round((time() - self.settings.history_age) * 1000), 0)
        self.window.expire(min(oldest, self.dispatched.next(0)))


def _joined(events: list[Event]) -> Payload:
    return Payload(b"".join(event.frame for event in events))
