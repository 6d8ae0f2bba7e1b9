"""The interface of a broker: it stores the event log, and a hub follows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from ..core import removals
from ..core.events import Draft, Event
from ..core.expirations import unix_ms
from ..core.removals import HeldPosition, Removal
from ..errors import Conflict, ServiceUnavailable
from ..scheduling import cooperative
from ..tasks import Skipping

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ..core.events import EventId
    from ..core.globs import Glob
    from ..core.topic_index import DirectoryPage

T = TypeVar("T")

MAX_INDEX_TOPICS = 1000
"""How many topics, or positions, a broker looks up in one call."""

_SKIPPING = Skipping("log")


class Gap(NamedTuple):
    """Events after a position are lost."""

    position: EventId  # where the event log continues
    reason: str
    """`aged`: they were trimmed. `unknown`: the event log never had the position, or lost it."""


class Bounds(NamedTuple):
    """Where an event log begins and ends."""

    floor: EventId  # the position just before the oldest event
    head: EventId  # the newest position; equal to the floor if the event log is empty

    def gap_after(self, position: EventId | None) -> Gap:
        """Return the gap after a position that the event log does not have."""
        if position and position < self.floor:
            return Gap(self.floor, "aged")
        return Gap(self.head, "unknown")


class RefusedEvent(NamedTuple):
    """An event that the event log did not take after its transaction had committed."""

    time: float
    """When it was refused, in Unix seconds."""
    topic: str
    id: str | None
    reason: str
    """`conflict`: its own id is taken. `ended`: it names an ended topic."""


class Usage(NamedTuple):
    """Where an event log begins and ends, and how much it keeps."""

    bounds: Bounds
    events: int
    bytes: int | None
    """As its limit of bytes counts them; None: it is not known without a long look."""
    refused: Sequence[RefusedEvent] = ()
    """The newest ones, the newest first."""


class TopicPage(NamedTuple):
    """The next events after a position: all, or those that have one of some topics."""

    events: list[Event]
    upto: EventId
    """The position up to which these are all; where nothing is left, the head."""
    bounds: Bounds
    """Where the event log began and ended then or a moment later: it shows what was trimmed."""


class Removed(NamedTuple):
    """What a removal did."""

    number: int
    """Of the events that it removed."""
    position: EventId | None
    """Of its entry in the event log; None: there was nothing to remove."""


class TopicEnd(NamedTuple):
    """The end of a topic: the event log takes no more events of it."""

    position: EventId  # of the event that ended it
    private: bool
    """Whether that event is private."""


Followed = list[Event] | Gap | HeldPosition
"""What a follower gets next: events, or what has happened to others."""


class Broker(Protocol):
    """One ordered event log, with an index by topic. Every call may be made from any greenlet, and
    raises `ServiceUnavailable` when the event log cannot be reached.

    Methods that take `topics` look them up in the index. They are exact names, at most
    `MAX_INDEX_TOPICS`; canonical topics and alternates count alike; an event that has several of
    them is returned once. Such methods are exact at every call, however much of the event log is
    in the index; damaged events are left out.
    """

    def append(self, drafts: Sequence[Draft]) -> list[Event]:
        """Append all drafts, or none; they are in the event log when this returns.

        Own ids are unique per canonical topic. If the event log has an event with a draft's own id
        and the same content, the draft is not appended, and that event is returned.

        A draft that is `ended` ends all of its topics, until the event log has that event no more.

        :raises Conflict: an own id is taken by other content in the same canonical topic, or a
            draft names an ended topic.
        """

    def remove(self, removal: Removal) -> Removed:
        """Remove events. From the first moment on, no method returns one of them. They are out of
        the event log when this returns; if this process ends before, another one does the rest.

        The positions of removed events are held: `position_of`, `positions_of` and `append` know
        them and their own ids until they would have been trimmed.
        """

    def follow(self, after: EventId) -> Iterator[Followed]:
        """Yield the events after a position, in order, until `close`. Blocks, and survives
        outages. A batch is bounded in bytes, and never empty. After a gap it continues at the
        gap's position. Entries that remove events are yielded by themselves, and so may be
        positions whose events have been removed.
        """

    def read(self, after: EventId, max_bytes: int) -> list[Event]:
        """Return the next events after a position: about `max_bytes` of frames, or one event."""

    def read_page(self, after: EventId, max_bytes: int) -> TopicPage:
        """Return what `read` does, and how far it has read."""

    def before(self, position: EventId, limit: int, max_bytes: int) -> list[Event]:
        """Return the newest events before a position, in the event log's order: at most `limit`,
        and about `max_bytes` of frames, or one event.
        """

    def read_topics(self, after: EventId, max_bytes: int, topics: Sequence[str]) -> TopicPage:
        """Return what `read_page` does, of the events that have one of some topics."""

    def before_topics(
        self, position: EventId, limit: int, max_bytes: int, topics: Sequence[str]
    ) -> list[Event]:
        """Return what `before` does, of the events that have one of some topics."""

    def newest(
        self, topics: Sequence[str], before: EventId, *, public: bool
    ) -> list[EventId | None]:
        """Return for each topic the position of its newest event before another one; None: there is
        none.

        :param public: whether only events that are not private count.
        """

    def read_at(self, positions: Sequence[EventId], max_bytes: int) -> list[Event]:
        """Return the first of the events at some positions, in the event log's order: about
        `max_bytes` of frames, or one event. Those that it has no longer are left out; a position
        that is held counts as an event of no size.

        :param positions: at most `MAX_INDEX_TOPICS`.
        """

    def ends(self, topics: Sequence[str]) -> list[TopicEnd | None]:
        """Return the end of each topic; None: it is not ended."""

    def newest_end(self) -> EventId | None:
        """Return the position of the newest event that ended a topic; None: no topic is ended."""

    def topics(
        self, prefix: str, after: str, limit: int, globs: Sequence[Glob] = ()
    ) -> DirectoryPage:
        """Return the next lines of the directory of topics, in the order of their names (code
        points): those that begin with a prefix and come after a name. A topic without events is
        not in it. A call looks at a bounded number of names, and may return fewer than there are,
        or none; the next one continues after the page's `upto`.

        :param limit: how many lines are returned at most.
        :param globs: if any, names that none of them matches may be left out.
        """

    def positions_of(
        self, id: str, after: EventId | None, limit: int, topics: Sequence[str] | None = None
    ) -> list[EventId]:
        """Return the positions of the events with an own id, the oldest first.

        The event at the floor counts if it was public, also where its topics are no longer known.

        :param after: only those after a position; None: all.
        :param topics: only of events that have one of these; None: of all.
        """

    def bounds(self) -> Bounds:
        """Return where the event log begins and ends now."""

    def count(self) -> int:
        """Return how many events the event log has now."""

    def usage(self) -> Usage:
        """Return what `bounds` and `count` do, and how many bytes the event log keeps."""

    def position_of(self, id: str) -> EventId | None:
        """Return the position that an id names: itself a position in the event log, or an own id.
        The own id of the event at the floor counts if that event was public.
        """

    def now(self) -> int:
        """Return the time by the event log's clock, in Unix milliseconds."""

    def close(self) -> None:
        """Release all resources; `follow` ends."""


now = unix_ms
"""The time as positions have it."""


def decode_event(position: EventId, text: str) -> Event:
    """Return a stored event.

    :param text: of its draft, as `Draft.to_json` makes it.
    :raises ValueError: it is damaged; or `BadRequest`.
    """
    try:
        return Event(position, Draft.from_json(text))
    except ValueError:
        if held := removals.decode(position, text):
            return held
        raise


def decode_events(rows: Iterable[T], decode: Callable[[T], Event]) -> list[Event]:
    """Return the events of stored rows. A damaged row is counted and left out, so that subscribers
    get all others.
    """
    events = list[Event]()
    for row in cooperative(rows):
        with _SKIPPING:
            events.append(decode(row))
    return events


def first_bytes(events: Iterable[Event], max_bytes: int) -> list[Event]:
    """Return the first events: about `max_bytes` of frames, or one event."""
    found, size = list[Event](), 0
    for event in events:
        found.append(event)
        size += event.wire_bytes
        if size >= max_bytes:
            break
    return found


def conflict() -> Conflict:
    """Return the refusal of an own id that is taken by other content."""
    detail = "The id is taken by an event with other content."
    return Conflict(detail, "Publish other content with another id.")


def topic_ended() -> Conflict:
    """Return the refusal of an event that names an ended topic."""
    detail = "The event names a topic that has ended."
    remedy = "Publish to another topic, or wait until the event log has dropped the last event."
    return Conflict(detail, remedy, reason="ended")


def stopping() -> ServiceUnavailable:
    """Return the refusal of a call after `close`."""
    return ServiceUnavailable("The hub is stopping.", "Try again in a moment.", reason="drain")


def too_fast() -> ServiceUnavailable:
    """Return the refusal of events for which publishers have waited too long."""
    detail = "Events are published faster than this hub can deliver them."
    return ServiceUnavailable(detail, "Publish more slowly.")
