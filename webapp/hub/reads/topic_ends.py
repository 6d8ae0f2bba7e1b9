"""Which topics have ended, as far as a subscriber may know it."""

from __future__ import annotations

from time import monotonic, time
from typing import TYPE_CHECKING

from ...core.events import EventId
from ...core.topics import grants
from .topic_lookup import exact_topics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..delivery.feeds import Feed
    from ..read_queue import Reading
    from .log_reader import LogReader

_SHARED_S = 1.0  # for which the streams of a feed share what one of them has looked up


class TopicEnds:
    """Looks up ends in the index by topic. While the event log has none, nothing is looked up.

    :param max_age: of events in the event log, in seconds.
    """

    def __init__(self, reader: LogReader, max_age: float) -> None:
        self._reader = reader
        self._max_age_ms = max_age * 1000

    def may_end(self, feed: Feed) -> bool:
        """Whether all topics of a feed may have ended."""
        oldest = time() * 1000 - self._max_age_ms
        return self._reader.window.ends_upto.ms > oldest and feed.is_exact

    @property
    def newest(self) -> EventId:
        """The position of the newest end that this process knows of."""
        return self._reader.window.ends_upto

    def end_of(self, feed: Feed, reading: Reading) -> EventId | None:
        """Return the position at which the last topic of a feed ended; None: not all have ended.

        :raises ReadingCancelled: the reading was cancelled.
        :raises ServiceUnavailable: the event log cannot be read.
        """
        topics = exact_topics(feed)
        if topics is None:
            return None
        newest_end = feed.newest_end  # a topic that ends while this is looked up may be missing
        found = find_ends(self._reader, feed, reading, topics)
        ended = max(found.values()) if len(found) == len(topics) else None
        feed.looked_up = (newest_end, monotonic() + _SHARED_S, ended)
        return ended

    def shared_end_of(self, feed: Feed, reading: Reading) -> EventId | None:
        """Return what `end_of` does, or has done a moment ago: many streams end together."""
        with self._reader.turn(reading):
            newest_end, until, ended = feed.looked_up
            if newest_end == feed.newest_end and monotonic() < until:
                return ended
        return self.end_of(feed, reading)


def find_ends(
    reader: LogReader, feed: Feed, reading: Reading, topics: Sequence[str]
) -> dict[str, EventId]:
    """Return at which positions topics have ended; without those that have not, or whose end the
    feed may not see.

    :param topics: at most `MAX_INDEX_TOPICS`, all of them exact.
    :raises ReadingCancelled: the reading was cancelled.
    :raises ServiceUnavailable: the event log cannot be read.
    """
    with reader.turn(reading):
        ends = reader.ask(reading, reader.broker.ends, topics)
    found, hidden = dict[str, EventId](), dict[str, EventId]()
    for topic, end in zip(topics, ends, strict=True):
        if end:
            seen = not end.private or grants(feed.grant, topic)
            (found if seen else hidden)[topic] = end.position
    if hidden and feed.grant:  # another topic of the event may be granted
        permitted = _permitted(reader, feed, reading, sorted(set(hidden.values())))
        found |= {topic: it for topic, it in hidden.items() if it in permitted}
    return found


def _permitted(
    reader: LogReader, feed: Feed, reading: Reading, positions: Sequence[EventId]
) -> set[EventId]:
    """Return the positions of those events that a feed may see."""
    permitted = set[EventId]()
    while positions:
        with reader.turn(reading, positions[0]):
            events = reader.at(reading, positions)
        permitted |= {it.position for it in reading.cooperative(events) if feed.permits(it)}
        upto = events[-1].position if events else positions[-1]
        positions = [it for it in positions if it > upto]
    return permitted
