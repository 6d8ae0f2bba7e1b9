"""Where the log begins and ends, for those who cannot wait until it answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gevent

from webapp.errors import Unavailable

if TYPE_CHECKING:
    from webapp.brokers.base import Bounds, Broker

_PATIENCE = 1.0  # seconds


class LogState:
    """Asks the log how it is, once for all that want to know at the same time."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._asked: gevent.Greenlet[[], Bounds | None] | None = None

    def bounds(self) -> Bounds | None:
        """Return where the log begins and ends; None: it is away, or does not say so in time."""
        if self._asked is None or self._asked.ready():
            self._asked = gevent.spawn(self._ask)
        asked = self._asked
        asked.join(_PATIENCE)
        return asked.value if asked.ready() else None

    def _ask(self) -> Bounds | None:
        try:
            return self._broker.bounds()
        except Unavailable:
            return None
