"""What a log must do to be followed by a hub."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..errors import Conflict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..core.events import Draft, Event, EventId


class Bounds(NamedTuple):
    """Where a log begins and ends."""

    floor: EventId  # the place just before the oldest event that is kept
    head: EventId  # the newest place; equal to the floor where nothing is kept


class Gap(NamedTuple):
    """The log does not go on from where its follower was: something is lost."""

    position: EventId  # where it goes on
    reason: str
    """`aged`: it was trimmed past the follower; `unknown`: it is another log, or lost its end."""


class Broker(Protocol):
    """One ordered event log. Every call may be made from any greenlet, and raises
    `ServiceUnavailable` when the event log cannot be reached.
    """

    def append(self, drafts: Sequence[Draft]) -> list[Event]:
        """Put all drafts in the log, or none; they are in it when this returns.

        A draft whose own id is kept already with the same content appends nothing and answers
        with the event that is there.

        :raises Conflict: an own id is taken by other content.
        """

    def follow(self, after: EventId) -> Iterator[list[Event] | Gap]:
        """Yield what comes after a place, in order, until `close`; blocks, and survives outages.

        A batch is bounded in bytes, and never empty. After a gap it goes on from the gap's place.
        """

    def read(self, after: EventId, max_bytes: int) -> list[Event]:
        """Return a page of the events after a place: about `max_bytes` of frames, or one event."""

    def before(self, position: EventId, limit: int, max_bytes: int) -> list[Event]:
        """Return the newest events before a place, in the log's order: at most `limit`, and
        about `max_bytes` of frames, or one event.
        """

    def bounds(self) -> Bounds:
        """Return where the log begins and ends now."""

    def count(self) -> int:
        """Return how many events the log keeps now."""

    def position_of(self, id: str) -> EventId | None:
        """Return the place that an id names: a place the log holds, or a publisher's own id. The
        own id of the floor counts where that event was public.
        """

    def close(self) -> None:
        """Let go of everything; `follow` ends."""


def now() -> int:
    """Return the time as places have it: Unix milliseconds."""
    return time.time_ns() // 1_000_000


def conflict() -> Conflict:
    """Return the refusal of an own id that is taken by other content."""
    detail = "The id is taken by an event with other content."
    return Conflict(detail, "Publish the change under an id of its own.")
