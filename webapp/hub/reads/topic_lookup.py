"""Which topics a feed matches, so that they can be looked up in the index by topic.

A feed that names exact topics needs no lookup. For URI templates, the names in the directory of
topics that begin with a template's literal head are matched. A feed that matches too many topics
has no list of them: the event log is then walked through.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from ...brokers.base import MAX_INDEX_TOPICS
from ...core.events import EventId
from ...core.globs import globs_of
from ...core.topics import EVERYTHING
from ..found_topics import FoundTopics

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ...core.globs import Glob
    from ..delivery.feeds import Feed
    from ..read_queue import Reading
    from .log_reader import LogReader

_MAX_CANDIDATES = 10_000  # names that are matched for one feed
_MAX_CHARS = 128 << 10  # of the names that it matches
_PAGE_NAMES = 1000  # of the directory, looked at in one turn
_REMEMBERED_LOOKUPS = 32
_BEFORE_ALL, _AFTER_ALL = EventId(0, 0), EventId(1 << 62, 0)


class TopicLookup:
    """Finds the topics that feeds match, and remembers the last results."""

    def __init__(self, reader: LogReader) -> None:
        self._reader = reader
        self._remembered: OrderedDict[frozenset[str], FoundTopics] = OrderedDict()

    def find(
        self, feed: Feed, reading: Reading, after: EventId, upto: EventId | None = None
    ) -> FoundTopics:
        """Return the topics of events after a position that a feed matches.

        :param upto: of events up to here, and further where that is known; None: of some events.
        :raises ReadingCancelled: the reading was cancelled.
        """
        if (names := exact_topics(feed)) is not None:
            return FoundTopics(names, _BEFORE_ALL, _AFTER_ALL)
        if EVERYTHING in feed.patterns:
            return FoundTopics(None, _BEFORE_ALL, _AFTER_ALL)
        upto = upto or after.next(0)
        for known in (reading.topics, self._remembered.get(feed.patterns)):
            if known and known.cover(after, upto):
                break
        else:
            known = self._look_up(feed, reading, after)
            self._remembered[feed.patterns] = known
            if len(self._remembered) > _REMEMBERED_LOOKUPS:
                self._remembered.popitem(last=False)
        reading.topics = known
        return known

    def _look_up(self, feed: Feed, reading: Reading, after: EventId) -> FoundTopics:
        window = self._reader.window
        in_window = after >= window.floor
        if in_window:
            head = window.head
        else:
            with self._reader.turn(reading):
                head = self._reader.ask(reading, self._reader.broker.bounds).head
        names = self._names(feed, reading, after, in_window=in_window)
        # Events that the window has dropped meanwhile may have had other topics.
        return FoundTopics(names, window.floor if in_window else after, head)

    def _names(
        self, feed: Feed, reading: Reading, after: EventId, *, in_window: bool
    ) -> list[str] | None:
        """Return the topics that a feed matches; None: they are too many."""
        found, candidates = set(feed.matcher.exact), 0
        for prefix in prefixes(feed):
            globs = globs_of(feed.matcher, prefix)
            for names in self._pages(prefix, globs, reading, after, in_window=in_window):
                candidates += len(names)
                found.update(filter(feed.matcher.matches, reading.cooperative(names)))
                if candidates > _MAX_CANDIDATES or _too_many(found):
                    return None
        return sorted(found)

    def _pages(
        self,
        prefix: str,
        globs: Sequence[Glob],
        reading: Reading,
        after: EventId,
        *,
        in_window: bool,
    ) -> Iterator[list[str]]:
        """Yield the names in the directory that begin with a prefix, in turns; without those that
        globs do not match, or that have no event after a position.
        """
        last: str | None = ""
        window, broker = self._reader.window, self._reader.broker
        while last is not None:
            with self._reader.turn(reading):
                if in_window:
                    for _ in reading.cooperative(window.sort_names()):
                        pass
                    names, last = window.names(prefix, last, _PAGE_NAMES, globs)
                else:
                    entries, last = self._reader.ask(
                        reading, broker.topics, prefix, last, _PAGE_NAMES, globs
                    )
                    names = [it.topic for it in entries if it.newest > after]
                yield names


def exact_topics(feed: Feed) -> list[str] | None:
    """Return the topics that a feed names; None: it has a pattern."""
    if feed.matcher.templates or EVERYTHING in feed.patterns:
        return None
    return sorted(feed.matcher.exact)


def prefixes(feed: Feed) -> list[str]:
    """Return how the topics begin that the patterns of a feed match; none begins as another one."""
    heads = {it.head for it in feed.matcher.templates}
    if EVERYTHING in feed.patterns:
        heads.add("")
    return [it for it in sorted(heads) if not any(map(it.startswith, heads - {it}))]


def _too_many(names: set[str]) -> bool:
    return len(names) > MAX_INDEX_TOPICS or sum(map(len, names)) > _MAX_CHARS
