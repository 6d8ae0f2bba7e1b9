"""Ask whether the event log answers, and how much it keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gevent

from ..brokers.base import Usage
from ..errors import ServiceUnavailable

if TYPE_CHECKING:
    from ..brokers.base import Broker

_TIMEOUT_S = 1.0


class LogProbe:
    """Asks the event log where it begins and ends and how much it keeps, once for all requests that
    wait for the same answer.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._call: gevent.Greenlet[[], Usage | ServiceUnavailable] | None = None

    def usage(self) -> Usage:
        """Return where the event log begins and ends now, and how much it keeps.

        :raises ServiceUnavailable: it cannot be reached, or does not answer within a second.
        """
        if self._call is None or self._call.ready():
            self._call = gevent.spawn(self._ask)
        call = self._call
        call.join(_TIMEOUT_S)
        found = call.value  # None until it has an answer
        if isinstance(found, Usage):
            return found
        if found is not None:
            # A copy: each raise would add its frames to the traceback of a shared error.
            raise ServiceUnavailable(found.detail, found.remedy, **found.extra)
        detail = f"The event log did not answer within {_TIMEOUT_S:g} s."
        remedy = "Check the load of its server or disk; the hub continues when it answers."
        raise ServiceUnavailable(detail, remedy)

    def _ask(self) -> Usage | ServiceUnavailable:
        try:
            return self._broker.usage()
        except ServiceUnavailable as error:  # gevent would print what a greenlet raises
            return error
