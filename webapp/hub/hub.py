"""The hub: where publishers and subscribers of one process meet."""

from __future__ import annotations

import logging
from time import monotonic
from typing import TYPE_CHECKING

import gevent
from gevent.lock import RLock

from ..core.events import EventId
from ..core.removals import HeldPosition
from ..core.window import Window
from ..errors import BadRequest, ServiceUnavailable
from ..monitoring.metrics import Metrics
from ..scheduling import Turns
from ..tasks import Skipping, lasting
from .delivery.dispatcher import Dispatcher
from .delivery.fanout import FanOut
from .delivery.feed_index import FeedIndex
from .delivery.feeds import PLAIN, Feed, Form
from .delivery.late_feeds import LateFeeds
from .log_probe import LogProbe
from .quota import StreamQuota
from .reads.history import History
from .reads.log_reader import PAGE_BYTES, LogReader
from .reads.reservations import Reservations
from .reads.snapshot import Snapshots
from .reads.start import FROM_NOW, Start, StartFinder
from .reads.topic_ends import TopicEnds
from .reads.topic_lookup import TopicLookup
from .removal_turns import RemovalTurns
from .sampler import Sampler
from .streams.stream import Stream
from .streams.stream_context import StreamContext
from .streams.stream_log import StreamLog
from .stuck_clients import StuckClients
from .timers import Timers
from .transient_events import TransientEvents
from .waiting_clients import WaitingClients

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..auth.authorizer import Grant
    from ..brokers.base import Broker
    from ..config.settings import Settings
    from ..core.events import Draft, Event
    from .observer import Observer
    from .socket_protocol import SubscriberSocket

logger = logging.getLogger(__name__)

_LISTED_BYTES = 8 << 20  # in one answer, at most
_MAX_FAILURES = 10  # in a row, of a task without which the hub delivers nothing
_OBSERVING = Skipping("observer")


class Hub:
    """Publishes into the event log, and streams from it. There is one in a process.

    :param max_subscribers: how many streams may be open at once; 0: any number.
    """

    def __init__(self, broker: Broker, settings: Settings, max_subscribers: int) -> None:
        self.broker, self.settings = broker, settings
        self.draining = False
        self.failed = False
        """Whether this process has to be replaced, because the hub cannot go on."""
        self.metrics = metrics = Metrics()
        self._tasks: list[gevent.Greenlet[[], None]] = []
        self._starting = RLock()
        # The event log drops older events, so they must not be in the window either.
        limit = min(settings.window_events, settings.history_events)
        limit_bytes = min(settings.window_bytes, settings.history_bytes)
        self.window = window = Window(EventId(0, 0), limit, limit_bytes, broker.now)
        self.observers: list[Observer] = [StreamLog(), StuckClients(window, metrics)]
        # The open streams
        self._subscribers: set[Stream] = set()
        self._feeds = FeedIndex()
        self._turns = Turns()  # in which streams open and end; events are delivered between two
        self.quota = StreamQuota(max_subscribers, settings.max_subscribers_per_ip)
        self.waiting_clients = WaitingClients(self.quota)
        self.removal_turns = RemovalTurns(self.waiting_clients)
        # Reads of past events
        self.reader = reader = LogReader(window, broker, settings.max_replay_bytes)
        topics = TopicLookup(reader)
        self.starts = StartFinder(reader, topics)
        self.history = History(reader, topics)
        self.ends = TopicEnds(reader, settings.history_age)
        self.listed_bytes = Reservations(settings.max_replay_bytes // 2, PAGE_BYTES, _LISTED_BYTES)
        # Delivery of new events
        self.fanout = FanOut(self._feeds, self._subscribers, reader.replays, metrics, window.head)
        self.late_feeds = LateFeeds(window, self.fanout)
        self.dispatcher = Dispatcher(broker, window, self.fanout, self.late_feeds, metrics)
        self.transient = TransientEvents(self.fanout)
        # Numbers and timers
        self._timers = Timers(settings, window, self.fanout, metrics, self._subscribers)
        self.log_probe = LogProbe(broker)
        self.sampler = Sampler(metrics, self.log_probe, self.flush_metrics, self._feeds)
        self.stream_context = StreamContext(
            history=self.history,
            snapshots=Snapshots(reader, settings.max_replay_bytes // 4),
            replays=reader.replays,
            fanout=self.fanout,
            transient=self.transient,
            metrics=metrics,
            settings=settings,
            ends=self.ends,
            register=self.register,
            unregister=self.unregister,
            turns=self._turns,
        )

    def start(self) -> None:
        """Begin to follow the event log, unless that was done.

        :raises ServiceUnavailable: the event log is not available. It may be called again.
        """
        if self._tasks:
            return
        with self._starting:
            if self._tasks:
                return
            self._prefill_window()
            for observer in self.observers:
                observer.start()
            self._tasks = [
                lasting("follow", self.dispatcher.follow, _MAX_FAILURES),
                lasting("dispatch", self.dispatcher.dispatch, _MAX_FAILURES),
                lasting("dispatch", self.late_feeds.run, _MAX_FAILURES),
                lasting("tick", self._timers.run),
                lasting("sample", self.sampler.run),
            ]
            for task in self._tasks:
                task.link_exception(self._on_task_failed)

    @property
    def has_started(self) -> bool:
        """Whether it follows the event log."""
        return bool(self._tasks)

    def _prefill_window(self) -> None:
        """Fill the window from the event log: after a deploy all subscribers come back at once, and
        should not all read from the broker.
        """
        head, window = self.broker.bounds().head, self.window
        events = self.broker.before(head.next(0), window.max_events, window.max_bytes)
        # The first event only marks the floor.
        window.clear(events[0].position if events else head)
        window.append(events[1:])
        if window.head < head:  # what follows is hidden
            window.append_hidden(HeldPosition(head))
        window.trim()
        window.ends_upto = self.broker.newest_end() or EventId(0, 0)
        self.fanout.begin_at(window.head)

    def _on_task_failed(self, task: gevent.Greenlet[[], None]) -> None:
        # Without this task the hub would send heartbeats but no events. The worker exits, and is
        # replaced.
        self.failed = True
        logger.critical("the hub is broken", exc_info=task.exception)

    def stop(self) -> None:
        """Stop following the event log, and close it."""
        for observer in self.observers:
            observer.stop()
        self.broker.close()
        gevent.killall(self._tasks)
        self.flush_metrics()

    def flush_metrics(self) -> None:
        """Let all processes see the metrics of this one up to now."""
        self._timers.flush_metrics()

    def head(self) -> EventId:
        """Return the position of the newest event that this process has read.

        :raises ServiceUnavailable: the event log is not available.
        """
        self.start()
        return self.window.head

    def __len__(self) -> int:
        return len(self._subscribers)

    def __iter__(self) -> Iterator[Stream]:
        return iter(list(self._subscribers))

    # Publishing

    def publish(self, drafts: Sequence[Draft]) -> list[Event]:
        """Append all drafts to the event log, or none. They are in it when this returns.

        :raises Conflict: an own id was used for other content.
        :raises ServiceUnavailable: the event log is not available.
        """
        self.start()
        began = monotonic()
        events = self.broker.append(drafts)
        self.metrics.published.add(len(events))
        self.metrics.publish_seconds.note(monotonic() - began)
        return events

    # Subscribing

    def subscribe(  # noqa: PLR0913 - all that a stream is made of
        self,
        patterns: frozenset[str],
        grant: Grant,
        start: Start,
        client: str = "",
        *,
        form: Form = PLAIN,
        socket: SubscriberSocket | None = None,
    ) -> Stream:
        """Return a stream, which opens when its frames are iterated. All that can be refused is
        refused here. If nothing is to be sent because its topics have ended, it has the reason
        `ended` already.

        :param client: the name under which limits count its client.
        :param socket: the client's; it notices a hang-up while the event log is read.
        :raises BadRequest: its URI templates name too many variables.
        :raises ServiceUnavailable: the hub is full or stopping, or the event log is not available.
        :raises TooManyRequests: the client has as many streams as it may.
        """
        feed = self.admit(patterns, grant, client, form)
        position, reset_reason, ended_at = self.window.head, None, None
        is_read, may_end = start != FROM_NOW and start.is_read, self.ends.may_end(feed)
        newest_end = self.ends.newest
        if is_read or may_end:
            with self.waiting_clients.read_for(client, socket) as reading:
                if is_read:
                    position, reset_reason = self.starts.find(start, feed, reading)
                    self.history.prepare_count(feed, reading, position)
                if may_end:
                    ended_at = self.ends.end_of(feed, reading)
        stream = Stream(self.stream_context, feed, grant, position, reset_reason)
        stream.begin(start, client)
        stream.looked_for = None if ended_at else newest_end
        if ended_at:
            feed.note_end(ended_at)
            if start == FROM_NOW or (not stream.snapshot and position >= ended_at):
                stream.end("ended")
        return stream

    def admit(
        self, patterns: frozenset[str], grant: Grant, client: str, form: Form = PLAIN
    ) -> Feed:
        """Return the feed of a client that is to be sent events; see `subscribe`."""
        self.start()
        self._turns.wait()
        if self.draining:
            detail = "The hub is stopping."
            raise ServiceUnavailable(detail, "Try again in a moment.", reason="drain")
        self.quota.check(client)
        feed = self._feeds.get(patterns, grant.subscribe, form)
        self._check_variables(feed)
        return feed

    def _check_variables(self, feed: Feed) -> None:
        limit = self.settings.max_variables
        if feed.matcher.templates and feed.variables > limit:
            detail = f"The URI templates of a stream name more variables than {limit}."
            remedy = "Ask for fewer, open several streams, or raise TIDINGS_MAX_VARIABLES."
            raise BadRequest(detail, remedy, reason="variables")

    def register(self, stream: Stream) -> None:
        """Count a stream that opens; `unregister` must follow, whatever happens."""
        stream.feed = self._feeds.acquire(stream.feed)
        self._subscribers.add(stream)
        self.quota.acquire(stream.client)
        if stream.feed.is_counted:
            self.metrics.opened.add()
        if self.draining:
            stream.end("drain")
        for observer in self.observers:
            with _OBSERVING:
                observer.opened(stream)

    def unregister(self, stream: Stream) -> None:
        """Forget a stream that has ended."""
        stream.feed.unpark(stream)
        self._subscribers.discard(stream)
        self.quota.release(stream.client)
        self._feeds.release(stream.feed)
        if stream.feed.is_counted:
            self.metrics.ended.add(1, stream.reason or "error")
        for observer in self.observers:
            with _OBSERVING:
                observer.closed(stream)

    def drain(self) -> None:
        """Refuse new streams, and end those that are open."""
        self.draining = True
        for subscriber in self:
            subscriber.end("drain")
        self.waiting_clients.drain()
