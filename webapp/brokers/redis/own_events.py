"""Events that this process has appended, and its follower has not read yet: decoded already."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...core.events import Event, EventId


class OwnEvents:
    """Events by position, each with the text of its draft."""

    def __init__(self) -> None:
        self._events: dict[bytes, tuple[str, Event]] = {}

    def add(self, text: str, event: Event) -> None:
        """Keep an event until the follower has read it."""
        self._events[str(event.position).encode()] = text, event

    def take(self, line: bytes) -> Event | None:
        """Return the event that the follower has read, or None if another process appended it.

        After a failover the server may give a position again, so the text must be the same, too.
        """
        position, _, text = line.partition(b" ")
        found = self._events.pop(position, None)
        return found[1] if found and found[0].encode() == text else None

    def followed(self, position: EventId) -> None:
        """Forget the oldest events up to a position. The follower may read an event before the
        append has its answer, and that event would stay.
        """
        while self._events:
            name, (_, event) = next(iter(self._events.items()))
            if event.position > position:
                break
            del self._events[name]

    def clear(self) -> None:
        """Forget all events: the follower has lost its position."""
        self._events.clear()

    def __len__(self) -> int:
        return len(self._events)
