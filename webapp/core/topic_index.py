"""Which events of a window have a topic or a custom id.

Events are named by their number: the window counts them as they are appended. An entry is written
for each topic of an event, and nothing is moved when one is dropped: numbers of dropped events are
left out by those who read, and cut away when they are half of a topic's entries.
"""

from __future__ import annotations

from bisect import bisect_left
from heapq import merge
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from .events import Event, EventId

_FEW_NAMES = 10_000  # that may be in memory without need


class TopicEntry(NamedTuple):
    """A line of the directory of topics: what an event log has of one topic."""

    topic: str
    newest: EventId
    """The position of the newest event that has it, as canonical topic or as an alternate."""
    events: int
    public_newest: EventId | None
    """The same of the events that are not private."""
    public_events: int


class TopicIndex:
    """Numbers of events by topic, in order.

    `first` is the number of the oldest event that was not dropped.
    """

    def __init__(self) -> None:
        self.first = 0
        # Those of private events are apart, so that those who may not see them do not walk over
        # them.
        self._public: dict[str, list[int]] = {}
        self._private: dict[str, list[int]] = {}
        self._of_id: dict[str, dict[str, int]] = {}  # by custom id, then by canonical topic
        self._names: list[str] | None = None  # sorted; some have no events any more
        self._new_names: list[str] = []  # topics that appeared since

    def add(self, number: int, event: Event) -> None:
        """Add an event with a number that is larger than all others."""
        draft = event.draft
        by_topic = self._private if draft.private else self._public
        for topic in draft.topics:
            if numbers := by_topic.get(topic):
                if numbers[-1] != number:
                    numbers.append(number)
            else:
                by_topic[topic] = [number]
                if self._names is not None:
                    self._note_name(self._names, topic)
        if draft.id:
            self._of_id.setdefault(draft.id, {}).setdefault(draft.topics[0], number)

    def drop_first(self, event: Event) -> None:
        """Drop the oldest event."""
        draft, number = event.draft, self.first
        self.first += 1
        by_topic = self._private if draft.private else self._public
        for topic in draft.topics:
            numbers = by_topic.get(topic, ())
            middle = len(numbers) // 2
            if numbers and numbers[-1] <= number:
                del by_topic[topic]
            elif numbers and numbers[middle] <= number:
                del numbers[: middle + 1]
        if draft.id and self._of_id.get(draft.id, {}).get(draft.topics[0]) == number:
            del self._of_id[draft.id][draft.topics[0]]
            if not self._of_id[draft.id]:
                del self._of_id[draft.id]

    def since(self, number: int, topics: Iterable[str]) -> Iterator[int]:
        """Yield the numbers from one on that have any of some topics. Nothing may be added or
        dropped meanwhile.
        """
        start = max(number, self.first)
        runs = [
            map(it.__getitem__, range(bisect_left(it, start), len(it)))
            for it in self._entries(topics)
        ]
        return runs[0] if len(runs) == 1 else (it for it, _ in groupby(merge(*runs)))

    def before(self, number: int, limit: int, topics: Iterable[str]) -> list[int]:
        """Return the newest numbers below one that have any of some topics, at most `limit`."""
        found = set[int]()
        for numbers in self._entries(topics):
            end = bisect_left(numbers, number)
            found.update(numbers[max(bisect_left(numbers, self.first), end - limit) : end])
        return sorted(found)[-limit:]

    def newest(self, number: int, topic: str, *, public: bool) -> int | None:
        """Return the newest number below another that has a topic.

        :param public: only of events that are not private.
        """
        newest = -1
        for numbers in self._entries([topic], public=public):
            if end := bisect_left(numbers, number):
                newest = max(newest, numbers[end - 1])
        return newest if newest >= self.first else None

    def count(self, topic: str, *, public: bool) -> int:
        """Return how many events have a topic.

        :param public: only of events that are not private.
        """
        entries = self._entries([topic], public=public)
        return sum(len(it) - bisect_left(it, self.first) for it in entries)

    def topics(self, prefix: str, after: str) -> Iterator[str]:
        """Yield the topics that begin with a prefix and come after another, in order. Nothing may
        be added meanwhile.
        """
        names = self._sorted_names()
        for number in range(bisect_left(names, max(prefix, after)), len(names)):
            name = names[number]
            if not name.startswith(prefix):
                return
            if name != after and (name in self._public or name in self._private):
                yield name
                after = name  # a topic that had no events for a while is there twice

    def with_id(self, id: str) -> Sequence[int]:
        """Return the numbers of the events with a custom id, the oldest first."""
        return list(self._of_id.get(id, {}).values())

    def find(self, topic: str, id: str) -> int | None:
        """Return the number of the event with a canonical topic and a custom id."""
        return self._of_id.get(id, {}).get(topic)

    def _entries(self, topics: Iterable[str], *, public: bool = False) -> list[list[int]]:
        if public or not self._private:
            return [self._public[topic] for topic in topics if topic in self._public]
        by_topic = (self._public, self._private)
        return [by[topic] for topic in topics for by in by_topic if topic in by]

    def _note_name(self, names: list[str], topic: str) -> None:
        self._new_names.append(topic)
        if len(self._new_names) > len(names) + _FEW_NAMES:
            self._names, self._new_names = None, []  # all are sorted again

    def _sorted_names(self) -> list[str]:
        """Return the names of all topics in order, and of some that have no events any more."""
        names, live = self._names or [], len(self._public) + len(self._private)
        if self._names is None or len(names) > 2 * live + _FEW_NAMES:
            names = sorted({*self._public, *self._private})
        elif self._new_names:
            names += sorted(self._new_names)
            names.sort()  # merges two runs, and compares each name once or twice
        self._names, self._new_names = names, []
        return names
