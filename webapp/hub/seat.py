"""Where the dispatcher meets readers that wait at the head of the log: they sleep on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gevent.event import Event as Signal

from ..tasks import skip
from .socket_protocol import never_sends

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..core.events import EventId
    from ..core.sse import Payload
    from .feeds import Feed
    from .socket_protocol import Buffer, Send
    from .subscriber import Subscriber


class Seat:
    """What is handed to a reader, and how far it got.

    :param position: where it begins.
    """

    # A pass looks at thousands of these, and waits for each part that lies elsewhere in memory.
    __slots__ = (
        "chunked",
        "cursor",
        "feed",
        "last_id_sent",
        "parked",
        "rest",
        "send",
        "sent",
        "sock",
        "wakeup",
    )

    def __init__(self, feed: Feed, position: EventId) -> None:
        self.feed = feed
        self.parked = False
        self.cursor = position
        """All that it sees up to here was given to it."""
        self.last_id_sent = position
        """The newest id that it knows."""
        self.sent = 0
        """How many events it was given."""
        self.chunked = False
        self.send: Send = never_sends
        """What sends to `sock` without waiting."""
        self.sock: object = None
        self.rest: Buffer = b""
        """What did not fit into its socket."""
        self.wakeup = Signal()


def deliver(
    subscribers: Iterable[Subscriber],
    payload: Payload,
    upto: EventId,
    last_id_sent: EventId,
    count: int,
) -> int:
    """Hand a payload to those that are parked; the others read themselves what it holds.

    It goes straight to the socket, and the reader sleeps on. What does not fit wakes it, and
    so does everything where there is no connection to write to. Nothing here waits.

    :param upto: up to where they have then been given all that they see.
    :param last_id_sent: the place of the last id in the payload.
    :param count: how many events the payload holds.
    :returns: to how many it was given.
    """
    given, plain, chunk = 0, payload.raw, payload.chunked
    for subscriber in subscribers:
        if not subscriber.parked:
            continue
        # Before the write: whatever becomes of it, nobody gives the reader this again.
        subscriber.cursor = upto
        subscriber.last_id_sent = last_id_sent
        subscriber.sent += count
        given += 1
        data = chunk if subscriber.chunked else plain
        send = subscriber.send  # `reader.send(…)` would look for a method each time
        try:
            sent = send(subscriber.sock, data)
        except OSError:  # it is full, or nobody is there: the reader finds out
            sent = 0
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, the others go on
            skip("send", error)
            subscriber.end("error")
            continue
        if sent < len(data):
            # A view: however many readers do not keep up, there is one payload.
            subscriber.rest = memoryview(data)[sent:] if sent else data
            subscriber.wake()
    return given
