"""Ask whether the event log answers, for /readyz, /metrics and the console."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gevent

from ..brokers.base import Bounds
from ..errors import ServiceUnavailable

if TYPE_CHECKING:
    from ..brokers.base import Broker

_TIMEOUT_S = 1.0


class LogProbe:
    """Asks the event log for its bounds, once for all requests that wait for the same answer."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._call: gevent.Greenlet[[], Bounds | ServiceUnavailable] | None = None

    def bounds(self) -> Bounds:
        """Return where the event log begins and ends now.

        :raises ServiceUnavailable: it cannot be reached, or does not answer within a second.
        """
        if self._call is None or self._call.ready():
            self._call = gevent.spawn(self._ask)
        call = self._call
        call.join(_TIMEOUT_S)
        found = call.value  # None until it has an answer
        if isinstance(found, Bounds):
            return found
        if found is not None:
            # A copy: each raise would add its frames to the traceback of a shared error.
            raise ServiceUnavailable(found.detail, found.remedy, **found.extra)
        detail = f"The event log did not answer within {_TIMEOUT_S:g} s."
        remedy = "Check the load of its server or disk; the hub continues when it answers."
        raise ServiceUnavailable(detail, remedy)

    def _ask(self) -> Bounds | ServiceUnavailable:
        try:
            return self._broker.bounds()
        except ServiceUnavailable as error:  # gevent would print what a greenlet raises
            return error
