"""Which events of a window have a topic.

Events are named by their number: the window counts them. An entry is written for each topic of an
event, and nothing is moved when one is dropped: numbers of dropped events are left out by those who
read, and cut away when they are half of a topic's entries.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from heapq import merge
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from .globs import narrow
from .sorted_set import SortedSet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from .events import Draft, Event, EventId
    from .globs import Glob

_SORTED_NAMES = 256  # names: half a millisecond
_EXAMINED_NAMES = 1000  # names, compared with a glob by one call: ten milliseconds at most


class TopicEntry(NamedTuple):
    """A line of the directory of topics: what an event log has of one topic."""

    topic: str
    newest: EventId
    """The position of the newest event that has it, as canonical topic or as an alternate."""
    events: int
    public_newest: EventId | None
    """The same of the events that are not private."""
    public_events: int


class DirectoryPage(NamedTuple):
    """Entries of the directory of topics, in the order of their names."""

    entries: list[TopicEntry]
    upto: str | None
    """The name up to which these are all; None: there are no more."""


class NamePage(NamedTuple):
    """Only the names of such entries."""

    names: list[str]
    upto: str | None


class TopicIndex:
    """Numbers of events by topic, in order."""

    def __init__(self) -> None:
        self.first = 0
        """The number of the oldest event that was not dropped."""
        self.next = 0
        """The number of the event that is added next."""
        # Those of private events are apart, so that those who may not see them do not walk over
        # them.
        self._public: dict[str, list[int]] = {}
        self._private: dict[str, list[int]] = {}
        # All names, but for those that were added or removed since they were asked for last: most
        # processes are never asked.
        self._names = SortedSet[str]()
        self._changed_names = dict[str, None]()

    def add(self, event: Event) -> None:
        """Add the next event."""
        draft, number = event.draft, self.next
        self.next += 1
        if event.is_hidden:
            return
        by_topic = self._private if draft.private else self._public
        for topic in draft.topics:
            if numbers := by_topic.get(topic):
                if numbers[-1] != number:
                    numbers.append(number)
            else:
                by_topic[topic] = [number]
                self._change_name(topic, draft)

    def drop_first(self, events: Sequence[Event]) -> None:
        """Drop the oldest events. The newest of these may not have been added yet."""
        end = self.first + len(events)
        for event in events[: self.next - self.first]:
            self._drop(event)
        self.first, self.next = end, max(self.next, end)

    def _drop(self, event: Event) -> None:
        draft, number = event.draft, self.first
        self.first += 1
        by_topic = self._private if draft.private else self._public
        for topic in draft.topics:
            numbers = by_topic.get(topic, ())
            middle = len(numbers) // 2
            if numbers and numbers[-1] <= number:
                del by_topic[topic]
                self._change_name(topic, draft)
            elif numbers and numbers[middle] <= number:
                del numbers[: middle + 1]

    def remove(self, events: Mapping[int, Event]) -> None:
        """Remove some events from their topics, as far as they were added.

        :param events: by number.
        """
        gone = {number: it.draft for number, it in events.items() if number < self.next}
        drafts = {(topic, it.private): it for it in gone.values() for topic in it.topics}
        for (topic, private), draft in drafts.items():
            by_topic = self._private if private else self._public
            numbers = by_topic[topic]
            start, end = bisect_left(numbers, min(gone)), bisect_right(numbers, max(gone))
            numbers[start:end] = [it for it in numbers[start:end] if it not in gone]
            if not numbers or numbers[-1] < self.first:
                del by_topic[topic]
                self._change_name(topic, draft)

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

    @property
    def has_unsorted_names(self) -> bool:
        """Whether `sort_names` has something to do."""
        return bool(self._changed_names)

    def sort_names(self) -> Iterator[None]:
        """Prepare for `names`, in short steps. It ends when nothing is left to do."""
        while self._changed_names:
            for _ in range(min(_SORTED_NAMES, len(self._changed_names))):
                name, _ = self._changed_names.popitem()
                if name in self._public or name in self._private:
                    self._names.add(name)
                else:
                    self._names.discard(name)
            yield
        self._changed_names.clear()  # frees its memory

    def names(self, prefix: str, after: str, limit: int, globs: Sequence[Glob]) -> NamePage:
        """Return the next topics that begin with a prefix and come after another, and that globs
        may match: at most `limit`, of a bounded number of names. Call `sort_names` before.
        """
        looked_at = _EXAMINED_NAMES // len(globs) if globs else limit
        names = self._names.first_from(max(prefix, after), looked_at + 1)
        if names and names[0] == after:
            del names[0]
        del names[_count_prefixed(names, prefix) :]
        found = narrow(names[:looked_at], globs)
        if len(found) > limit:
            return NamePage(found[:limit], found[limit - 1])
        return NamePage(found, names[looked_at - 1] if len(names) >= looked_at else None)

    def _entries(self, topics: Iterable[str], *, public: bool = False) -> list[list[int]]:
        if public or not self._private:
            return [self._public[topic] for topic in topics if topic in self._public]
        by_topic = (self._public, self._private)
        return [by[topic] for topic in topics for by in by_topic if topic in by]

    def _change_name(self, topic: str, draft: Draft) -> None:
        # Called for the first and last event of a topic among those that are private, or are not.
        if topic not in (self._public if draft.private else self._private):
            if topic in self._changed_names:  # changed twice, it is as before
                del self._changed_names[topic]
            else:
                self._changed_names[topic] = None


def _count_prefixed(names: list[str], prefix: str) -> int:
    """Return how many of sorted names, none of them before a prefix, begin with it."""
    return bisect_left(names, 1, key=lambda name: not name.startswith(prefix))
