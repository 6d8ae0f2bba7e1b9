"""What subscribers missed: the past events that a feed matches, page by page."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from ...brokers.base import Gap
from ...scheduling import TimeSlice
from ..read_queue import TURN_S
from .log_reader import PAGE_BYTES
from .topic_lookup import exact_topics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...brokers.base import Bounds
    from ...core.events import Event, EventId
    from ..delivery.feeds import Feed
    from ..found_topics import FoundTopics
    from ..read_queue import Reading
    from .log_reader import LogReader
    from .topic_lookup import TopicLookup

_SCAN_PAGE_BYTES = 16 << 10  # a page where URI templates are matched, so that a turn ends in time
# What is counted before a stream's first bytes are sent, at most:
_MAX_COUNTED_EVENTS = 500
_MAX_COUNTED_WORK = 1000  # in units of `Feed.work`
_COUNTING_S = 0.002


class Found(NamedTuple):
    """Which of the next events after a position a feed matches."""

    seen: list[Event]
    upto: EventId
    """The position up to which the feed matches no others."""
    more: bool
    """Whether more events may follow; False: `upto` is the head at this moment."""
    gap: Gap | None = None


class History:
    """Reads what follows a position. What that costs grows with what the feed matches: it is found
    by the index by topic, unless the feed matches too many topics.

    All methods raise `ServiceUnavailable` where the event log cannot be read.
    """

    def __init__(self, reader: LogReader, topics: TopicLookup) -> None:
        self._reader = reader
        self._window = reader.window
        self._topics = topics

    def look(self, feed: Feed, reading: Reading, after: EventId) -> Found:
        """Return which of the next events after a position a feed matches. Where nothing follows it
        does not yield to the loop after it found that out.

        :raises ReadingCancelled: the reading was cancelled.
        """
        after = feed.skip_unmatched(after)
        if after >= self._window.head:
            return Found([], after, more=False)
        topics = self._topics.find(feed, reading, after)
        with self._reader.turn(reading, after):
            if topics.names is not None:
                self._update_index(reading, after)
            after = feed.skip_unmatched(after)
            page = self._page(reading, after, topics, _page_bytes(feed, topics))
            if isinstance(page, Gap):
                return Found([], after, more=True, gap=page)
            events, upto = page
            if upto <= after:
                return Found([], after, more=False)
            seen, upto = _matched(feed, events, upto, reading)
        if not seen:
            feed.note_unmatched(after, upto)
        return Found(seen, upto, more=True)

    def _page(
        self, reading: Reading, after: EventId, topics: FoundTopics, max_bytes: int
    ) -> tuple[list[Event], EventId] | Gap:
        """Return the next events after a position that may match and the position up to which these
        are all, or the gap there. The same position: it is the head at this moment.

        :param topics: of all events that match.
        :param max_bytes: about how many bytes of events.
        """
        if not topics.cover(after, after.next(0)):
            topics = topics._replace(names=None)  # others have read on meanwhile
        while after < self._window.floor:
            events, upto, bounds = self._ask(reading, after, topics, max_bytes)
            if bounds.floor > after:
                return Gap(bounds.floor, "aged")
            if upto > after:
                return events, upto
        if topics.names is None:
            events = self._window.after(after, max_bytes)
            return events, events[-1].position if events else self._window.head
        events, upto = self._window.after_with(after, max_bytes, topics.names)
        return _until(topics.upto, events, upto)

    def _ask(
        self, reading: Reading, after: EventId, topics: FoundTopics, max_bytes: int
    ) -> tuple[list[Event], EventId, Bounds]:
        broker = self._reader.broker
        if topics.names is None:
            return self._reader.ask(reading, broker.read_page, after, max_bytes)
        page = self._reader.ask(reading, broker.read_topics, after, max_bytes, topics.names)
        return *_until(topics.upto, page.events, page.upto), page.bounds

    def prepare_count(self, feed: Feed, reading: Reading, after: EventId) -> None:
        """Do the slow part of `count`, which must be called soon after.

        :raises ReadingCancelled: the reading was cancelled.
        """
        if exact_topics(feed) is not None:
            self._update_index(reading, after)

    def _update_index(self, reading: Reading, after: EventId) -> None:
        if after >= self._window.floor and self._window.needs_index_after(after):
            self._reader.update_index(reading)

    def count(self, feed: Feed, after: EventId) -> int | None:
        """Return how many events after a position a feed matches; None: counting takes too long."""
        window = self._window
        if after >= window.head:
            return 0
        missed, upto = self._missed(feed, after) if after >= window.floor else ([], after)
        if len(missed) > _MAX_COUNTED_EVENTS or upto < window.head:
            return None
        if sum(map(feed.work, missed)) > _MAX_COUNTED_WORK:
            return None
        number, until = 0, monotonic() + _COUNTING_S
        for event in missed:
            number += feed.matches(event)
            if monotonic() > until:
                return None
        return number

    def _missed(self, feed: Feed, after: EventId) -> tuple[list[Event], EventId]:
        if (topics := exact_topics(feed)) is not None:
            return self._window.after_with(after, PAGE_BYTES, topics)
        missed = self._window.after(after, PAGE_BYTES)
        upto = missed[-1].position if missed else after
        return missed, upto if self._window.after(upto, 1) else self._window.head


def _page_bytes(feed: Feed, topics: FoundTopics) -> int:
    scans = feed.matched_last and topics.names is None
    return min(PAGE_BYTES, _SCAN_PAGE_BYTES) if scans else PAGE_BYTES


def _until(end: EventId, events: list[Event], upto: EventId) -> tuple[list[Event], EventId]:
    """Return those of the events up to `upto` that do not come after `end`, and up to where."""
    if upto <= end:
        return events, upto
    return [event for event in events if event.position <= end], end


def _matched(
    feed: Feed, events: Sequence[Event], upto: EventId, reading: Reading
) -> tuple[list[Event], EventId]:
    """Return which events up to a position a feed matches, until the time of a turn has passed, and
    up to which position these are all.
    """
    time_slice = TimeSlice()
    seen: list[Event] = []
    for event in events:
        reading.check()
        if feed.matches(event):
            seen.append(event)
        time_slice.checkpoint()
        if time_slice.worked > TURN_S:
            return seen, event.position
    return seen, upto
