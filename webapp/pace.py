"""Hand the loop over now and then: work on thousands must not hold it."""

from __future__ import annotations

from time import monotonic

import gevent

_SLICE = 0.002  # seconds that a piece of work keeps the loop for itself


class Pace:
    """The pace of one piece of work."""

    def __init__(self) -> None:
        self._since = monotonic()

    def keep(self) -> None:
        """Let others run if a slice of time has passed."""
        if monotonic() - self._since > _SLICE:
            gevent.sleep(0)
            self._since = monotonic()
