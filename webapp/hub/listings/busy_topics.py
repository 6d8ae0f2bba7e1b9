"""Counts the events of each topic in the last minute, in the window."""

from __future__ import annotations

from collections import Counter
from heapq import nlargest
from time import time
from typing import TYPE_CHECKING, NamedTuple

from ...core.events import EventId
from ...core.topics import EVERYTHING
from ...scheduling import RequestSlice, cooperative
from ..delivery.feeds import Feed

if TYPE_CHECKING:
    from ...auth.authorizer import Grant
    from ..hub import Hub

_MEASURED_S = 60.0
_MAX_EVENTS = 10_000


class BusyTopics(NamedTuple):
    """How many events topics have."""

    counts: Counter[str]
    seconds: float
    """In how many of the last seconds."""

    def rate(self, topic: str) -> float:
        """Return how many events a second a topic has."""
        return round(self.counts[topic] / self.seconds, 4)

    def most(self, limit: int) -> list[str]:
        """Return the topics with the most events."""
        return nlargest(limit, self.counts, key=self.counts.__getitem__)


def busy_topics(hub: Hub, grant: Grant) -> BusyTopics:
    """Count the events that a client may see.

    :raises ServiceUnavailable: the event log is not available.
    """
    hub.start()
    feed = Feed(frozenset({EVERYTHING}), grant.subscribe)
    now, window = time(), hub.window
    since = EventId(max(0, round((now - _MEASURED_S) * 1000)), 0)
    events = window.before(window.head.next(0), _MAX_EVENTS)
    counts, oldest, time_slice = Counter[str](), None, RequestSlice()
    for event in cooperative(events, time_slice):
        if event.position < since:
            continue
        oldest = oldest or event.position
        if feed.permits(event):
            counts.update(set(feed.visible_topics(event)))
    if oldest is None or len(events) < _MAX_EVENTS:
        return BusyTopics(counts, _MEASURED_S)
    return BusyTopics(counts, min(_MEASURED_S, max(1.0, now - oldest.ms / 1000)))
