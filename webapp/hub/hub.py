"""Publishers and readers meet here: count readers, keep their time, say goodbye to them."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from time import monotonic, time
from typing import TYPE_CHECKING

import gevent
from gevent.lock import RLock

from ..core.events import EventId
from ..core.window import Window
from ..errors import BadRequest, ServiceUnavailable, TidingsError
from ..metrics import Metrics
from ..scheduling import TimeSlice
from ..tasks import Skipping, lasting
from .dispatcher import REFRESH_FRACTION, Dispatcher
from .feeds import FeedIndex
from .history import History, Start
from .quota import StreamQuota
from .read_queue import Left, Reading
from .stream_log import StreamLog
from .subscriber import Subscriber

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..auth.authorizer import Grant
    from ..brokers.base import Broker
    from ..config.settings import Settings
    from ..core.events import Draft, Event
    from ..presence.service import Presence
    from .feeds import Feed
    from .socket_protocol import SubscriberSocket

logger = logging.getLogger(__name__)

_MOST_FAILURES = 10  # in a row, of what no worker can do without
_TICKING, _OBSERVING = Skipping("tick"), Skipping("observer")


class Hub:
    """The one object that readers and publishers meet in; one a process.

    :param max_readers: how many streams may be open at once; 0: any number.
    """

    history: History
    fanout: Dispatcher

    def __init__(self, broker: Broker, settings: Settings, max_readers: int) -> None:
        self.broker = broker
        self.settings = settings
        self.draining = False
        self.failed = False
        self.presence: Presence | None = None
        self.observers: list[Callable[[Subscriber, bool], None]] = []
        self.metrics = Metrics()
        self.journal = StreamLog()
        self.quota = StreamQuota(max_readers, settings.max_subscribers_per_ip)
        self._members: set[Subscriber] = set()
        self._readings: set[Reading] = set()  # of those whose streams are not open yet
        self._feeds = FeedIndex()
        self._tasks: list[gevent.Greenlet[[], None]] = []
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
        window = self._recalled(self.broker.bounds().head)
        self.history = History(window, self.broker, self.settings.max_replay_bytes)
        self.fanout = Dispatcher(self.broker, window, self._feeds, self._members, self.metrics)
        others = self.presence.start() if self.presence else []
        self._tasks = [
            *others,
            lasting("follow", self.fanout.follow, _MOST_FAILURES),
            lasting("dispatch", self.fanout.dispatch, _MOST_FAILURES),
            lasting("dispatch", self.fanout.late.run, _MOST_FAILURES),
            lasting("tick", self._tick),
        ]
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
        window = Window(events[0].position if events else head, most, size)
        window.append(events[1:])
        window.trim()
        return window

    def _fail(self, task: gevent.Greenlet[[], None]) -> None:
        # No input does this. It would beat for ever and deliver nothing: better that its process
        # starts anew.
        self.failed = True
        logger.critical("the hub is broken", exc_info=task.exception)

    def stop(self) -> None:
        """Stop following the log and let go of it."""
        if self.presence:
            self.presence.stop()
        self.broker.close()
        gevent.killall(self._tasks)
        self.measure()

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Subscriber]:
        return iter(list(self._members))

    # Publishing

    def publish(self, drafts: Sequence[Draft]) -> list[Event]:
        """Put all drafts in the log, or none; they are in it when this returns.

        :raises Conflict: an own id is taken by other content.
        :raises Unavailable: the log cannot be reached.
        """
        self.start()
        began = monotonic()
        events = self.broker.append(drafts)
        self.metrics.published(len(events), monotonic() - began)
        return events

    # Subscribing

    def subscribe(  # noqa: PLR0913 - all that a stream is made of
        self,
        selectors: frozenset[str],
        grant: Grant,
        start: Start,
        client: str = "",
        *,
        envelope: bool = False,
        connection: SubscriberSocket | None = None,
    ) -> Subscriber:
        """Settle all that can fail about a new reader.

        :param client: whose stream it is, as far as limits ask.
        :param envelope: whether it gets each event's data in JSON that names the event's topics.
        :param connection: the reader's socket, where the server hands it over: who hangs up while
            the log is asked is forgotten at once.
        :raises Invalid: its URI templates name too many variables.
        :raises Unavailable: the hub is full or stopping, or the log cannot be reached.
        :raises TooMany: the client has as many streams as it may.
        """
        self.start()
        if self.draining:
            detail = "The hub is stopping."
            raise ServiceUnavailable(detail, "Come back in a moment.", reason="drain")
        self.quota.check(client)
        feed = self._feeds.get(selectors, grant.subscribe, envelope=envelope)
        self._check_variables(feed)
        if start == Start():
            position, lost = self.fanout.window.head, None
        else:
            position, lost = self._placed(start, feed, client, connection)
        subscriber = Subscriber(self, feed, position, lost=lost, grant=grant)
        subscriber.client = client
        return subscriber

    def _placed(
        self, start: Start, feed: Feed, client: str, connection: SubscriberSocket | None
    ) -> tuple[EventId, str | None]:
        """Ask the log where a stream begins; it has its room from now on."""
        reading = Reading(client)
        self._readings.add(reading)
        # Until this returns, and then nothing yields to the loop before `join`.
        self.quota.acquire(client)
        try:
            with connection.on_hangup(reading.cancel) if connection else nullcontext():
                return self.history.position(start, feed, reading)
        except (Left, TidingsError) as error:
            if connection:
                connection.answer_last()
            if isinstance(error, TidingsError):
                raise
            reason = "drain" if self.draining else "client_left"
            detail = "The stream ended before it began."
            raise ServiceUnavailable(detail, "Come back in a moment.", reason=reason) from None
        finally:
            self.quota.release(client)
            self._readings.discard(reading)

    def _check_variables(self, feed: Feed) -> None:
        most = self.settings.max_variables
        if feed.asked.templates and feed.asked.variables > most:
            detail = f"The URI templates of a stream name more variables than {most}."
            remedy = (
                "Ask for fewer templates, open several streams, or raise TIDINGS_MAX_VARIABLES."
            )
            raise BadRequest(detail, remedy, reason="variables")

    def join(self, subscriber: Subscriber) -> None:
        """Count a reader whose stream opens; `leave` must follow, whatever happens."""
        subscriber.feed = self._feeds.enter(subscriber.feed)
        self._members.add(subscriber)
        self.quota.acquire(subscriber.client)
        self.metrics.opened()
        if self.draining:
            subscriber.end("drain")
        if self.presence and self.presence.is_revoked(subscriber.grant):
            subscriber.end("kicked")  # its token was revoked meanwhile
        self._observe(subscriber, opened=True)

    def leave(self, subscriber: Subscriber) -> None:
        """Forget a reader whose stream has ended."""
        subscriber.unpark()
        self._members.discard(subscriber)
        self.quota.release(subscriber.client)
        self._feeds.leave(subscriber.feed)
        self.metrics.ended(subscriber.reason or "error")
        self._observe(subscriber, opened=False)

    def drain(self) -> None:
        """Take no new readers and say goodbye to those that are here."""
        self.draining = True
        for subscriber in self:
            subscriber.end("drain")
        for reading in self._readings:
            reading.cancel()

    def _observe(self, subscriber: Subscriber, *, opened: bool) -> None:
        for observer in self.observers:
            with _OBSERVING:
                observer(subscriber, opened)

    # Keeping time

    def _tick(self) -> None:
        """Beat for the feeds that are silent, and end the streams whose time is over."""
        silence, renewed = self.settings.heartbeat, monotonic()
        while True:
            gevent.sleep(min(1.0, silence / 4))
            now = monotonic()
            with _TICKING:
                self._forget_old()
            self.measure()
            if now - renewed >= self.settings.history_age * REFRESH_FRACTION:
                renewed = now
                with _TICKING:
                    self.fanout.renew()
            self._beat(now, silence)
            self._keep_times(now)

    def _beat(self, now: float, silence: float) -> None:
        pace = TimeSlice()
        for feed in list(self._feeds):
            if now - feed.last_write >= silence:
                feed.last_write = now
                for some in pace.chunks(list(feed.parked)):
                    for subscriber in some:
                        subscriber.beat()

    def _keep_times(self, now: float) -> None:
        for some in TimeSlice().chunks(list(self)):
            for subscriber in some:
                if subscriber.life.due <= now:
                    with _TICKING:
                        subscriber.keep_time(now)

    def measure(self) -> None:
        """Let operators and all processes see what this one has done until now."""
        with _TICKING:
            self.journal.flush()
        with _TICKING:
            self.metrics.flush(len(self), self.fanout.window.fill_ratio if self._tasks else 0.0)

    def _forget_old(self) -> None:
        oldest = EventId(round((time() - self.settings.history_age) * 1000), 0)
        self.fanout.window.drop_before(min(oldest, self.fanout.dispatched_up_to.next(0)))
