"""List events for one answer: those that follow a start, or the newest event of each topic."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from ...errors import BadRequest, ServiceUnavailable
from ...scheduling import yield_to_loop
from ...tasks import Skipping

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ...auth.authorizer import Grant
    from ...core.events import Event, EventId
    from ..delivery.feeds import Feed
    from ..hub import Hub
    from ..read_queue import Reading
    from ..reads.start import Start
    from ..socket_protocol import SubscriberSocket

_SKIPPING = Skipping("feed")
_MAX_TRIES = 10  # to read while events are removed


class ListedEvents(NamedTuple):
    """Events, and where to continue."""

    envelopes: list[bytes]
    """Each event as JSON."""
    last_id: str
    """The cursor after which to continue. It is no own id: events of several topics may have the
    same one, and it is forgotten with its event.
    """
    more: bool
    """Whether there are more events after these."""
    reset_reason: str | None
    """Why events before these are missing: `aged` or `unknown`. None: none are."""
    ended: bool
    """Whether no more events can follow, because all topics have ended."""
    close: Callable[[], None]
    """Frees the memory that they were given; it must be called."""


def list_events(  # noqa: PLR0913 - what a client asks for, and who it is
    hub: Hub,
    patterns: frozenset[str],
    grant: Grant,
    start: Start,
    *,
    limit: int,
    client: str,
    socket: SubscriberSocket | None,
) -> ListedEvents:
    """Return the next events after a start, of those that the event log has now. The client counts
    as a stream meanwhile; it is answered on a connection that closes then.

    :param limit: how many events are listed at most.
    :raises BadRequest: a snapshot has more events, or URI templates name too many variables.
    :raises ServiceUnavailable: the hub is stopping, or the event log is not available.
    :raises TooManyRequests: the client has as many streams as it may.
    """
    feed = hub.admit(patterns, grant, client)
    with hub.waiting_clients.read_for(client, socket) as reading:
        size = hub.listed_bytes.reserve(client)
        close = partial(hub.listed_bytes.release, client, size)
        try:
            found = _read(hub, feed, reading, start, limit, size)
        except BaseException:
            close()
            raise
    if socket:
        socket.answer_last()  # what it sent meanwhile was thrown away
    return found._replace(close=close)


def _read(  # noqa: PLR0913, PLR0917 - as above
    hub: Hub, feed: Feed, reading: Reading, start: Start, limit: int, max_bytes: int
) -> ListedEvents:
    """Read the events, and again if some were removed meanwhile: they may be among these."""
    removals = hub.fanout.removals
    for _ in range(_MAX_TRIES):
        count = removals.count
        found = _EventListing(hub, feed, reading, limit, max_bytes).read(start)
        if count == removals.count:
            return found
    detail = "Events were removed again and again while the hub read them."
    raise ServiceUnavailable(detail, "Try again in a moment.")


class _EventListing:
    """The events that a feed matches, up to a number and about a size.

    All reads wait in the queue of past events.
    """

    def __init__(self, hub: Hub, feed: Feed, reading: Reading, limit: int, max_bytes: int) -> None:
        self._hub, self._feed, self._reading = hub, feed, reading
        self._limit, self._max_bytes = limit, max_bytes
        self._envelopes, self._size = list[bytes](), 0
        self._last: EventId | None = None  # of the last event that is listed
        self._is_full = False  # whether an event was found that is not listed
        self._has_end = False  # whether an event is listed that ended a topic

    def read(self, start: Start) -> ListedEvents:
        """List the events.

        :raises ReadingCancelled: the reading was cancelled.
        :raises ServiceUnavailable: the event log cannot be read.
        """
        end = self._hub.reader.end(self._reading)
        position, reset_reason = self._hub.starts.find(start, self._feed, self._reading, end)
        if start.latest and (reset_reason or start.cursor is None):
            last_id = str(self._add_snapshot())
        else:
            upto, gap_reason = self._add_after(position, end)
            reset_reason = reset_reason or gap_reason
            continues = start.cursor and not start.other_cursors and not reset_reason
            last_id = str(self._last or (continues and start.cursor) or upto)
        more, ended = self._is_full, not self._is_full and self._has_ended(end)
        return ListedEvents(self._envelopes, last_id, more, reset_reason, ended, lambda: None)

    def _add_after(self, position: EventId, end: EventId) -> tuple[EventId, str | None]:
        """Add the events between two positions. Return up to where these are all, and why some
        before them are missing.
        """
        reset_reason = None
        while position < end and not self._is_full:
            found = self._hub.history.look(self._feed, self._reading, position)
            if found.gap and self._last:  # the next page has a reset
                self._is_full = True
            elif found.gap:
                position, reset_reason = found.gap.position, found.gap.reason
            elif not found.more:
                break
            else:
                self._add(event for event in found.seen if event.position <= end)
                position = found.upto
            yield_to_loop()
        return max(position, end), reset_reason

    def _add_snapshot(self) -> EventId | None:
        """Add the newest event of each topic. Return the position as of which it is that.

        :raises BadRequest: these are too many.
        """
        snapshot = self._hub.stream_context.snapshots.begin(self._feed)
        try:
            while not snapshot.ended:
                self._add(snapshot.read(self._reading))
                if self._is_full:
                    raise self._too_many()
                yield_to_loop()
        finally:
            snapshot.close()
        return snapshot.position

    def _has_ended(self, end: EventId) -> bool:
        """Whether all topics had ended at a position, up to where everything was listed."""
        if not (self._hub.ends.may_end(self._feed) or self._has_end):
            return False
        ended_at = self._hub.ends.end_of(self._feed, self._reading)
        return ended_at is not None and ended_at <= end

    def _add(self, events: Iterable[Event]) -> None:
        for event in self._reading.cooperative(events):
            self._is_full = len(self._envelopes) >= self._limit or self._size >= self._max_bytes
            if self._is_full:
                return
            with _SKIPPING:
                envelope = event.envelope(self._feed.visible_topics(event)).encode()
                self._envelopes.append(envelope)
                self._size += len(envelope)
                self._last = event.position
                self._has_end = self._has_end or event.draft.ended

    def _too_many(self) -> BadRequest:
        detail = f"The newest events of all topics are more than the limit, {self._limit}."
        remedy = "Send a larger limit, name fewer topics, or read them as a stream with wait=1."
        if len(self._envelopes) < self._limit:
            detail = f"The newest events of all topics take more than {self._max_bytes} bytes."
            remedy = "Name fewer topics, or read them as a stream with wait=1."
        return BadRequest(detail, remedy, reason="snapshot")
