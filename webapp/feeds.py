"""Who sees the same events: matching is done once for all of them."""

from __future__ import annotations

from collections import defaultdict
from time import monotonic
from typing import TYPE_CHECKING

from webapp.topics import covers, selector

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from webapp.events import Event
    from webapp.subscription import Subscription


class Feed:
    """The parked readers that see the same events."""

    def __init__(self, selectors: frozenset[str], granted: frozenset[str]) -> None:
        self.selectors = selectors
        self.granted = granted
        self.members = 0
        self.last_write = monotonic()
        self.parked: set[Subscription] = set()

    def sees(self, event: Event) -> bool:
        """Whether its readers asked for the event and may see it."""
        topics = event.draft.topics
        return covers(self.selectors, topics) and (
            not event.draft.private or covers(self.granted, topics)
        )


class Feeds:
    """The feeds that have readers; exact topics are indexed, however many there are."""

    def __init__(self) -> None:
        self._feeds: dict[tuple[frozenset[str], frozenset[str]], Feed] = {}
        self._exact: defaultdict[str, set[Feed]] = defaultdict(set)
        self._patterns: set[Feed] = set()

    def __iter__(self) -> Iterator[Feed]:
        return iter(self._feeds.values())

    def __len__(self) -> int:
        return len(self._feeds)

    def get(self, selectors: frozenset[str], granted: frozenset[str]) -> Feed:
        """Return the feed of those rights, or a new one that nobody has entered."""
        return self._feeds.get((selectors, granted)) or Feed(selectors, granted)

    def enter(self, feed: Feed) -> Feed:
        """Count one more reader of a feed; return the one to be in, where another came first."""
        feed = self._feeds.setdefault((feed.selectors, feed.granted), feed)
        feed.members += 1
        for feeds in self._indexes(feed):
            feeds.add(feed)
        return feed

    def leave(self, feed: Feed) -> None:
        """Count one reader less; with the last one the feed is forgotten."""
        feed.members -= 1
        if feed.members:
            return
        del self._feeds[feed.selectors, feed.granted]
        for feeds in self._indexes(feed):
            feeds.discard(feed)
        for text in feed.selectors:
            if text in self._exact and not self._exact[text]:
                del self._exact[text]

    def asked_for(self, topics: Iterable[str]) -> set[Feed]:
        """Return the feeds that may see an event of some topics: those that name one of them,
        and those that have a pattern.
        """
        return self._patterns.union(*(self._exact.get(topic, ()) for topic in topics))

    def _indexes(self, feed: Feed) -> list[set[Feed]]:
        names = [selector(text).exact for text in feed.selectors]
        return [self._patterns if name is None else self._exact[name] for name in names]
