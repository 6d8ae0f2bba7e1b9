"""The turn of long work on an event log: its steps take turns with what others do there."""

from __future__ import annotations

from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING

import gevent
from gevent.lock import BoundedSemaphore

if TYPE_CHECKING:
    from collections.abc import Iterator

_SHORT_STEP_S = 0.001  # it found nothing to do
_SHORTEST_PAUSE_S = 0.005  # after a longer step: other processes append, too
_LONGEST_PAUSE_S = 0.25  # the machine may have stood still


class Steps:
    """Lets a process do one step at a time, however many clients wait for steps. After each one the
    event log is free for as long as the step took.
    """

    def __init__(self) -> None:
        self._lock = BoundedSemaphore()
        self._next_at = 0.0  # a monotonic time

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a turn, and do a step inside the context."""
        with self._lock:
            if (left := self._next_at - monotonic()) > 0:
                gevent.sleep(left)
            began = monotonic()
            try:
                yield
            finally:
                took = (ended := monotonic()) - began
                if took > _SHORT_STEP_S:
                    pause = min(max(took, _SHORTEST_PAUSE_S), _LONGEST_PAUSE_S)
                    self._next_at = ended + pause
