"""Which events of a window ended a topic."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .events import Event, EventId


class TopicEnds:
    """The events that ended topics, by topic."""

    def __init__(self) -> None:
        self._events: dict[str, Event] = {}

    def __bool__(self) -> bool:
        return bool(self._events)

    def add(self, event: Event) -> None:
        """Add an event that ends its topics."""
        self._events.update(dict.fromkeys(event.draft.topics, event))

    def drop(self, event: Event) -> None:
        """Drop an event: its topics are open again, unless a newer event ended them."""
        for topic in event.draft.topics:
            if self._events.get(topic) is event:
                del self._events[topic]

    def find(self, topic: str) -> Event | None:
        """Return the event that ended a topic; None: the topic is not ended."""
        return self._events.get(topic)

    @property
    def newest(self) -> EventId | None:
        """The position of the newest of the events."""
        return max((it.position for it in self._events.values()), default=None)
