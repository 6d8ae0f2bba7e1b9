"""Where the log begins and ends, for those who cannot wait until it answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gevent

from ..brokers.base import Bounds
from ..errors import ServiceUnavailable

if TYPE_CHECKING:
    from ..brokers.base import Broker

_PATIENCE = 1.0  # seconds


class LogProbe:
    """Asks the log how it is, once for all that want to know at the same time."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._asked: gevent.Greenlet[[], Bounds | ServiceUnavailable] | None = None

    def bounds(self) -> Bounds:
        """Return where the log begins and ends now.

        :raises Unavailable: it is away, or does not answer within a second.
        """
        if self._asked is None or self._asked.ready():
            self._asked = gevent.spawn(self._ask)
        asked = self._asked
        asked.join(_PATIENCE)
        found = asked.value  # None until then
        if isinstance(found, Bounds):
            return found
        if found is not None:
            # Not itself: it would gather the frames of all that wait.
            raise ServiceUnavailable(found.detail, found.remedy, **found.extra)
        detail = f"The log does not answer within {_PATIENCE:g} s."
        remedy = "See whether its server or its disk is overloaded; the hub waits for it by itself."
        raise ServiceUnavailable(detail, remedy)

    def _ask(self) -> Bounds | ServiceUnavailable:
        try:
            return self._broker.bounds()
        except ServiceUnavailable as error:  # gevent prints what a greenlet raises
            return error
