"""A stream that ends: it is sent what the event log has, and waits for nothing (`wait=0`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..delivery.feeds import PLAIN
from ..streams.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ...auth.authorizer import Grant
    from ..delivery.feeds import Form
    from ..hub import Hub
    from ..read_queue import Reading
    from ..reads.snapshot import Snapshot
    from ..reads.start import Start
    from ..socket_protocol import SubscriberSocket


def read_to_end(  # noqa: PLR0913 - all that a stream is made of
    hub: Hub,
    patterns: frozenset[str],
    grant: Grant,
    start: Start,
    client: str = "",
    *,
    form: Form = PLAIN,
    socket: SubscriberSocket | None = None,
) -> FiniteStream:
    """Return a stream of all events that the event log has now; see `Hub.subscribe`."""
    feed = hub.admit(patterns, grant, client, form)
    with hub.waiting_clients.read_for(client, socket) as reading:
        end = hub.reader.end(reading)
        position, reset_reason = hub.starts.find(start, feed, reading, end)
    stream = FiniteStream(hub.stream_context, feed, grant, position, reset_reason)
    stream.end_position = end
    stream.begin(start, client)
    return stream


class FiniteStream(Stream):
    """Ends where another stream would park, with the reason `complete`."""

    __slots__ = ("end_position",)

    waits = False

    def __init__(self, *values: Any) -> None:
        super().__init__(*values)
        self.name = ""  # it is too short for the list of subscribers
        self.end_position = self.cursor
        """It may end once it was sent all events up to here. It need not reach the head, which may
        move as fast as it reads."""

    def _read_on(self, reading: Reading, since: float) -> Iterable[bytes]:
        if self.cursor >= self.end_position and not self.snapshot and not self.gap:
            return self._reached_head()
        return super()._read_on(reading, since)

    def _look_for_end(self, reading: Reading) -> bool:  # noqa: ARG002 - it ends in any case
        return False

    def _read_snapshot(self, snapshot: Snapshot, reading: Reading, since: float) -> Iterable[bytes]:
        frames = super()._read_snapshot(snapshot, reading, since)
        if self.feed.form.control and self.snapshot is None and not self.events_sent:
            return ()  # the mark at the end has the id
        return frames

    def _reached_head(self) -> Iterable[bytes]:
        if self._context.transient.misses(self, self.feed):
            return self._missed_transient()
        self._note_caught_up()
        self.end("complete")
        return [self._mark()] if self.feed.form.control else ()
