"""A subscriber as all but its own stream see it, and how payloads are delivered to it."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Protocol

from ..tasks import skip
from .deadlines import Deadlines
from .socket_protocol import never_sends

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..auth.authorizer import Grant
    from ..brokers.base import Gap
    from ..core.events import EventId
    from ..core.sse import Payload
    from .read_queue import Reading
    from .socket_protocol import Buffer, Send, Wakeup


class LiveBytes(Protocol):
    """Counts the payloads that wait for slow clients."""

    def hold_live(self, client: str, data: bytes) -> object:
        """Count a payload for as long as the result exists; None: there is no room."""


class Subscriber:
    """A connected client.

    :param selectors: which topics it asked for.
    :param grant: what its token allows, and until when.
    :param position: only events after it are sent.
    :param max_age: seconds after which the stream ends; 0: never.
    """

    # Slots: `deliver` touches thousands of these, and cache misses are most of its cost.
    __slots__ = (
        "chunked",
        "client",
        "cursor",
        "deadlines",
        "events_sent",
        "gap",
        "grant",
        "held",
        "last_id_sent",
        "live_bytes",
        "name",
        "opened_at",
        "parked",
        "reading",
        "reason",
        "selectors",
        "send",
        "sock",
        "transient_position",
        "unsent",
        "wakeup",
    )

    def __init__(
        self, selectors: frozenset[str], grant: Grant, position: EventId, max_age: float
    ) -> None:
        self.selectors = selectors
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
        """Whether it has everything that was dispatched; only then `deliver` writes to it."""
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
        self.chunked = False
        self.send: Send = never_sends
        """Sends to `sock` without waiting."""
        self.sock: object = None
        self.unsent: Buffer | None = b""
        """The part of the last payload that did not fit into the socket; None: it is not kept."""
        self.held: object = None
        """While it exists, the payload counts of which `unsent` is a part."""
        self.live_bytes: LiveBytes
        self.wakeup: Wakeup | None = None
        """Continues the stream when it is parked; None before the stream begins."""

    def wake(self) -> None:
        """Let the stream continue: what follows its cursor it reads itself."""
        self.parked = False
        self._continue()

    def read_again(self) -> None:
        """Let the stream read what could not be written to it."""
        self.wake()

    def end(self, reason: str) -> None:
        """End the stream soon.

        :param reason: `client_left`, `drain`, `max_age`, `token_expired`, `too_slow`, `kicked` or
            `error`. Only the first one counts.
        """
        self.reason = self.reason or reason
        self._continue()
        if self.reading:
            self.reading.cancel()

    def notify_gap(self, gap: Gap) -> None:
        """Let the stream tell its client about a gap in the event log, and go on after it."""
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


def deliver(
    subscribers: Iterable[Subscriber],
    payload: Payload,
    upto: EventId,
    last_id: EventId,
    event_count: int,
) -> int:
    """Write a payload to the sockets of those subscribers that are parked. Nothing here waits.

    A subscriber whose socket took all of it stays parked. Otherwise, or where the server hands no
    socket over, its stream is woken and sends the rest.

    :param upto: the subscribers have then been sent every event up to here that they may see.
    :param last_id: the last id in the payload.
    :param event_count: how many events the payload holds.
    :returns: the number of subscribers that were sent the payload, or will be.
    """
    count, raw, chunked = 0, payload.raw, payload.chunked
    for subscriber in subscribers:
        if not subscriber.parked:
            continue
        data = chunked if subscriber.chunked else raw
        send = subscriber.send  # `subscriber.send(…)` would search for a method first
        try:
            sent = send(subscriber.sock, data)
        except OSError:  # the buffer is full or the client has disconnected: the stream finds out
            sent = 0
        except Exception as error:  # noqa: BLE001 - a fault of one socket ends one stream only
            skip("send", error)
            subscriber.end("error")
            continue
        if sent < len(data) and not _keep_unsent(subscriber, data, sent, again=event_count > 0):
            continue
        subscriber.cursor = upto
        subscriber.last_id_sent = last_id
        subscriber.events_sent += event_count
        count += 1
    return count


def _keep_unsent(subscriber: Subscriber, data: bytes, sent: int, *, again: bool) -> bool:
    """Keep what did not fit into a socket, for the stream to send, if memory for it is left.
    Otherwise the stream reads the events again, or is cut off if a part of them was sent.

    :param again: whether the data are events, which can be read again.
    :returns: whether it is kept.
    """
    subscriber.held = held = subscriber.live_bytes.hold_live(subscriber.client, data)
    if held:
        # A view: however many subscribers are slow, there is one payload.
        subscriber.unsent = memoryview(data)[sent:] if sent else data
        subscriber.wake()
    elif again and not sent:
        subscriber.read_again()
    else:
        subscriber.unsent = None
        subscriber.end("too_slow")
        subscriber.wake()
    return held is not None
