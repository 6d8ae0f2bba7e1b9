"""Logs when a follower cannot read the event log, and when it can again."""

from __future__ import annotations

import logging

from ..backoff import Backoff
from ..errors import TidingsError
from ..tasks import skip

logger = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.1


class Outage:
    """Logs the first failure and the recovery, and slows down the tries in between.

    :param longest_pause: in seconds.
    """

    def __init__(self, longest_pause: float) -> None:
        self._backoff = Backoff(_FIRST_PAUSE_S, longest_pause)

    def pause_after(self, error: Exception) -> float:
        """Note a failure. Returns how many seconds to wait before the next try."""
        if not isinstance(error, TidingsError):
            skip("log", error)
        if not self._backoff.failures:
            logger.error("the event log is unavailable: %s", error)
        return self._backoff.next()

    def over(self) -> None:
        """Note that the event log answers."""
        if self._backoff.reset():
            logger.warning("the event log is available again")
