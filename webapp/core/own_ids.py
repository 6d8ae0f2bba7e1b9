"""The own ids of the events of a window."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .events import Event


class OwnIds:
    """Events by own id and canonical topic: the oldest one of each."""

    def __init__(self) -> None:
        self._events: dict[str, dict[str, Event]] = {}

    def add(self, event: Event) -> None:
        """Add an event that has an own id."""
        self._events.setdefault(event.id, {}).setdefault(event.draft.topics[0], event)

    def replace(self, event: Event, other: Event) -> None:
        """Let another event with its topic and id take the place of an event."""
        by_topic, topic = self._events.get(event.id, {}), event.draft.topics[0]
        if by_topic.get(topic) is event:
            by_topic[topic] = other

    def drop(self, event: Event) -> None:
        """Drop an event, if it is the oldest one with its topic and id."""
        by_topic, topic = self._events.get(event.id, {}), event.draft.topics[0]
        if by_topic.get(topic) is event:
            del by_topic[topic]
            if not by_topic:
                del self._events[event.id]

    def find(self, topic: str, id: str) -> Event | None:
        """Return the event with a canonical topic and an own id."""
        return self._events.get(id, {}).get(topic)

    def all(self, id: str) -> list[Event]:
        """Return the events with an own id, the oldest first."""
        return list(self._events.get(id, {}).values())
