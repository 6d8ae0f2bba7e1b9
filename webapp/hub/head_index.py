"""Finds the feeds whose URI templates may match a topic, by the literals that these begin with."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

T = TypeVar("T")

_MAX_HEAD_CHARS = 24  # of a literal; each length in use costs one more lookup for each topic


class HeadIndex(Generic[T]):
    """Feeds with URI templates, by how the topics begin that they may match."""

    def __init__(self) -> None:
        self._feeds: dict[str, set[T]] = {}
        self._lengths: Counter[int] = Counter()  # of the heads

    def __bool__(self) -> bool:
        return bool(self._feeds)

    def add(self, feed: T, heads: Iterable[str]) -> None:
        """Add a feed.

        :param heads: how the topics begin that it may match.
        """
        for head in _cut(heads):
            if head not in self._feeds:
                self._feeds[head] = set()
                self._lengths[len(head)] += 1
            self._feeds[head].add(feed)

    def discard(self, feed: T, heads: Iterable[str]) -> None:
        """Remove a feed that was added with these heads."""
        for head in _cut(heads):
            feeds = self._feeds[head]
            feeds.discard(feed)
            if not feeds:
                del self._feeds[head]
                self._lengths[len(head)] -= 1
                if not self._lengths[len(head)]:
                    del self._lengths[len(head)]

    def candidates(self, topics: Iterable[str]) -> set[T]:
        """Return the feeds that may see an event of some topics."""
        lengths = list(self._lengths)
        heads = {topic[:length] for topic in topics for length in lengths}
        # Each head once: of a thousand topics many begin alike.
        return set[T]().union(*(self._feeds[head] for head in heads & self._feeds.keys()))


def _cut(heads: Iterable[str]) -> set[str]:
    return {head[:_MAX_HEAD_CHARS] for head in heads}
