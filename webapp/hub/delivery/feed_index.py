"""Finds the feeds that may match an event by its topics, however many feeds there are."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from ...core.topics import EVERYTHING
from .feeds import Feed, Form

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_MAX_HEAD_CHARS = 24  # of a literal; each length in use costs one more lookup for each topic


class FeedIndex:
    """The feeds that have subscribers."""

    def __init__(self) -> None:
        self._feeds: dict[tuple[frozenset[str], frozenset[str], Form], Feed] = {}
        self._exact: defaultdict[str, set[Feed]] = defaultdict(set)
        self._everything: set[Feed] = set()
        self.matched_last = _HeadIndex()
        """The feeds that are sent an event after all others."""
        self.presence_feeds: set[Feed] = set()
        """The feeds whose subscribers may see presence events."""
        self._uncounted: set[Feed] = set()

    def __iter__(self) -> Iterator[Feed]:
        return iter(self._feeds.values())

    def __len__(self) -> int:
        return len(self._feeds)

    @property
    def uncounted(self) -> int:
        """How many subscribers no metric counts."""
        return sum(feed.subscriber_count for feed in self._uncounted)

    def get(self, patterns: frozenset[str], grant: frozenset[str], form: Form) -> Feed:
        """Return the feed with these parameters, or a new one that is not in the index yet."""
        found = self._feeds.get((patterns, grant, form))
        return found or Feed(patterns, grant, form)

    def acquire(self, feed: Feed) -> Feed:
        """Count a subscriber of a feed; `release` must follow.

        :returns: the feed to use: one with the same parameters, if it is in the index already.
        """
        new, feed = feed, self._feeds.setdefault((feed.patterns, feed.grant, feed.form), feed)
        if new.newest_end:
            feed.note_end(new.newest_end)
        feed.subscriber_count += 1
        if feed.subscriber_count > 1:
            return feed
        if feed.matched_last:
            self.matched_last.add(feed)
        else:
            for feeds in self._indexes(feed):
                feeds.add(feed)
        if feed.wants_presence:
            self.presence_feeds.add(feed)
        if not feed.is_counted:
            self._uncounted.add(feed)
        return feed

    def release(self, feed: Feed) -> None:
        """Stop counting a subscriber. The feed is dropped with its last subscriber."""
        feed.subscriber_count -= 1
        if feed.subscriber_count:
            return
        del self._feeds[feed.patterns, feed.grant, feed.form]
        if feed.gzip:
            feed.gzip.drop()
        self.presence_feeds.discard(feed)
        self._uncounted.discard(feed)
        if feed.matched_last:
            self.matched_last.discard(feed)
            return
        for feeds in self._indexes(feed):
            feeds.discard(feed)
        for text in feed.matcher.exact:
            if text in self._exact and not self._exact[text]:
                del self._exact[text]

    def candidates(self, topics: Iterable[str]) -> set[Feed]:
        """Return the feeds that may match an event with some topics, without those that are matched
        last.
        """
        return self._everything.union(*[self._exact.get(topic, ()) for topic in topics])

    def _indexes(self, feed: Feed) -> list[set[Feed]]:
        found = [self._exact[topic] for topic in feed.matcher.exact]
        return [*found, self._everything] if EVERYTHING in feed.patterns else found


class _HeadIndex:
    """The feeds that are matched last, by how the topics begin that they may match."""

    def __init__(self) -> None:
        self._feeds: dict[str, set[Feed]] = {}
        self._lengths: Counter[int] = Counter()  # of the heads

    def __bool__(self) -> bool:
        return bool(self._feeds)

    def add(self, feed: Feed) -> None:
        """Add a feed."""
        for head in _cut(feed.heads):
            if head not in self._feeds:
                self._feeds[head] = set()
                self._lengths[len(head)] += 1
            self._feeds[head].add(feed)

    def discard(self, feed: Feed) -> None:
        """Remove a feed."""
        for head in _cut(feed.heads):
            feeds = self._feeds[head]
            feeds.discard(feed)
            if not feeds:
                del self._feeds[head]
                self._lengths[len(head)] -= 1
                if not self._lengths[len(head)]:
                    del self._lengths[len(head)]

    def candidates(self, topics: Iterable[str]) -> set[Feed]:
        """Return the feeds that may see an event of some topics."""
        lengths = list(self._lengths)
        heads = {topic[:length] for topic in topics for length in lengths}
        # Each head once: of a thousand topics many begin alike.
        return set[Feed]().union(*(self._feeds[head] for head in heads & self._feeds.keys()))


def _cut(heads: Iterable[str]) -> set[str]:
    return {head[:_MAX_HEAD_CHARS] for head in heads}
