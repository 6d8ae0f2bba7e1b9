"""A subscriber: its topics, its grant, its cursor and its socket."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from ..socket_protocol import never_sends
from .deadlines import Deadlines

if TYPE_CHECKING:
    from ...auth.authorizer import Grant
    from ...brokers.base import Gap
    from ...core.events import EventId
    from ..read_queue import Reading
    from ..socket_protocol import Buffer, Send, Wakeup
    from .shared_gzip import GzipStream


class Subscriber:
    """A connected client. Its states are those of its stream, see `stream`.

    :param patterns: which topics it asked for.
    :param grant: what its token allows, and until when.
    :param position: only events after it are sent.
    :param max_age: seconds after which the stream ends; 0: never.
    """

    waits = True
    """Whether it waits for new events, and does not end once it was sent all that there are."""

    # Slots: a fan-out touches thousands of these, and cache misses are most of its cost.
    __slots__ = (
        "chunked",
        "client",
        "cursor",
        "deadlines",
        "events_sent",
        "gap",
        "grant",
        "gzip",
        "last_id_sent",
        "name",
        "opened_at",
        "parked",
        "patterns",
        "reading",
        "reason",
        "send",
        "sending",
        "sock",
        "transient_position",
        "unsent",
        "unsent_frame",
        "wakeup",
    )

    def __init__(
        self, patterns: frozenset[str], grant: Grant, position: EventId, max_age: float
    ) -> None:
        self.patterns = patterns
        self.grant = grant
        self.client = ""
        """The name under which limits count its client."""
        self.name = ""
        """Its URN in the list of subscribers; empty where there is no presence."""
        self.opened_at = monotonic()
        self.deadlines = Deadlines(max_age, grant.expires)
        self.reason: str | None = None
        """Why the stream is to end; None while it is not."""
        self.parked = False
        """Whether it has everything that was dispatched, and new payloads go to its socket."""
        self.cursor = position
        """It was sent every event up to here that it may see."""
        self.last_id_sent = position
        """The newest id that its client knows."""
        self.transient_position = position
        """It was sent every transient event up to here."""
        self.events_sent = 0
        self.gap: Gap | None = None
        """A gap in the event log, of which `hub.reset` has to inform its client."""
        self.reading: Reading | None = None
        """Its read of past events, while there is one."""
        self.gzip: GzipStream | None = None
        """Compresses its stream; None: it is plain."""
        self.chunked = False
        self.send: Send = never_sends
        """Sends to `sock` without waiting."""
        self.sock: object = None
        self.unsent: Buffer | None = b""
        """The part of the last payload that did not fit into the socket; None: it is not kept."""
        self.unsent_frame: object = None
        """The last payload, which counts for the limit of replays as long as this refers to it."""
        self.sending: tuple[EventId, EventId] | None = None
        """Between which positions the events lie that are being sent to it, if there are any."""
        self.wakeup: Wakeup | None = None
        """Continues the stream when it is parked; None before the stream begins."""

    @property
    def is_listed(self) -> bool:
        """Whether it is in the list of subscribers, where there is one."""
        return self.waits

    def wake(self) -> None:
        """Let the stream continue: what follows its cursor it reads itself."""
        self.unpark()
        self._continue()

    def unpark(self) -> None:
        """Let the dispatcher stop writing to its socket."""
        self.parked = False
        if self.gzip and self.gzip.feed:
            self.gzip.feed.remove(self)

    def end(self, reason: str) -> None:
        """End the stream soon.

        :param reason: `client_left`, `complete`, `drain`, `ended`, `max_age`, `token_expired`,
            `too_slow`, `kicked`, `gap`, `removed` or `error`. Only the first one counts.
        """
        self.reason = self.reason or reason
        self._continue()
        if self.reading:
            self.reading.cancel()

    def cut_off(self, why: str = "too_slow") -> None:
        """End the stream in the middle of what it is being sent."""
        self.unsent = None
        self.end(why)
        self.wake()

    def drop_unsent(self) -> None:
        """Send nothing any more of what the stream has taken from the event log, and end it."""
        self.cut_off("removed")

    def notify_gap(self, gap: Gap) -> None:
        """Let the stream send `hub.reset` for a gap in the event log, and continue after it."""
        self.gap = gap
        self.wake()

    def check_deadlines(self, now: float) -> None:
        """End the stream if it or its token is too old; warn its client a minute before the token
        expires.

        :param now: monotonic seconds.
        """
        if self.deadlines.warn_now(now):
            self._continue()
        if reason := self.deadlines.end_reason(now):
            self.end(reason)

    def _continue(self) -> None:
        if self.wakeup:
            self.wakeup.set()
