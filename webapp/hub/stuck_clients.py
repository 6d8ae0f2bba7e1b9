"""Find clients that cannot read an event: they disconnect when they are sent it, and come back with
the same cursor, again and again.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from time import monotonic
from typing import TYPE_CHECKING

from ..core.escaping import escape
from ..limited_lines import LimitedLines
from .observer import Observer

if TYPE_CHECKING:
    from ..core.events import EventId
    from ..core.window import Window
    from ..monitoring.metrics import Metrics
    from .delivery.subscriber import Subscriber

    Start = tuple[str, frozenset[str], EventId]

logger = logging.getLogger(__name__)

_REPORTED_ATTEMPTS = 5  # that end early, before a client is reported
_SHORT_STREAM_S = 10  # after which a stream that ends is not counted
_MAX_KNOWN_STARTS = 1000


class StuckClients(Observer):
    """Counts the short streams of one client that begin at the same position, before the newest
    event, and reports the fifth. A client is logged once a minute, and counted each time.
    """

    def __init__(self, window: Window, metrics: Metrics) -> None:
        self._window = window
        self._metrics = metrics
        self._starts: dict[Subscriber, EventId] = {}  # of open streams that began in the past
        self._attempts: OrderedDict[Start, int] = OrderedDict()
        self._lines = LimitedLines()

    def opened(self, subscriber: Subscriber) -> None:
        """Note where a stream begins, if it reads past events."""
        if subscriber.cursor < self._window.head:
            self._starts[subscriber] = subscriber.cursor

    def closed(self, subscriber: Subscriber) -> None:
        """Count a stream that its client ended soon after it was sent an event."""
        start = self._starts.pop(subscriber, None)
        if start is None or not subscriber.events_sent or subscriber.reason != "client_left":
            return
        if monotonic() - subscriber.opened_at > _SHORT_STREAM_S:
            return
        key = subscriber.client, subscriber.patterns, start
        self._attempts[key] = self._attempts.pop(key, 0) + 1
        if len(self._attempts) > _MAX_KNOWN_STARTS:
            self._attempts.popitem(last=False)
        if self._attempts[key] % _REPORTED_ATTEMPTS == 0:
            self._metrics.stuck_clients.add()
            client = escape(subscriber.client) or "-"
            if line := self._lines.admit(f"client={client} after={start}", client):
                message = "a client disconnects at the same event again and again: %s"
                logger.warning(message, line)
