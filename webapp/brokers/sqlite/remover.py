"""The task that removes events from an SQLite file, in steps between commits."""

from __future__ import annotations

from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

import gevent

from ...backoff import jitter
from ...errors import ServiceUnavailable
from ..base import Removed
from ..steps import Steps
from .removals import RemovalPendingError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...core.events import EventId
    from ...core.removals import Removal
    from .expiration_steps import ExpirationSteps
    from .removal_steps import RemovalSteps

    T = TypeVar("T")

_INTERVAL_S = 5.0  # between two looks for a removal whose process has ended
_TIMEOUT_S = 20.0  # how long a read waits for removals


class Remover:
    """Runs the steps for one process.

    :param read: calls a function in a thread that reads.
    :param write: calls a function in the thread that commits.
    :param on_begun: called when the entry of a removal is in the event log.
    """

    def __init__(
        self,
        removals: RemovalSteps,
        expirations: ExpirationSteps,
        read: Callable[..., Any],
        write: Callable[..., Any],
        on_begun: Callable[[], None],
    ) -> None:
        self._removals, self._expirations = removals, expirations
        self._read, self._write = read, write
        self._on_begun = on_begun
        self._steps = Steps()
        self._begun = self._emptied = 0  # removals that have begun to empty the WAL, and have done

    def remove(self, removal: Removal) -> Removed:
        """Remove events; see `Broker.remove`."""
        with self._steps.turn():
            position, count = self._write(self._removals.begin, removal)
        if position is None:
            return Removed(0, None)
        self._on_begun()
        if count is None:
            self._finish(position)
            count = self._write(self._removals.forget, position)
        self._empty_wal()
        return Removed(count, position)

    def read(self, function: Callable[..., T], *values: Any) -> T:
        """Return what a function reads. While removals go on, help, and read again."""
        until = monotonic() + _TIMEOUT_S
        while monotonic() < until:
            with suppress(RemovalPendingError):
                found: T = self._read(function, *values)
                return found
            for position in self._read(self._removals.progress):
                self._step(position)
            self._expire_some()
        detail = "Many events are being removed from the event log."
        raise ServiceUnavailable(detail, "Try again in a moment.")

    def expire(self) -> None:
        """Remove the events that have expired."""
        while self._expire_some():
            pass

    def run(self) -> None:
        """Finish removals whose processes have ended, until the greenlet is killed."""
        before: dict[EventId, int] = {}
        while True:
            with suppress(ServiceUnavailable):  # the follower logs it
                now = self._read(self._removals.progress)
                for position in [it for it in now if before.get(it) == now[it]]:
                    self._finish(position)
                before = now
            gevent.sleep(_INTERVAL_S * jitter(0.5, 1))

    def _finish(self, position: EventId) -> None:
        while not self._step(position):
            pass

    def _step(self, position: EventId) -> bool:
        """Do a step; return whether nothing is left to do."""
        with self._steps.turn():
            is_done: bool = self._write(self._removals.step, position)
        return is_done

    def _expire_some(self) -> bool:
        """Do a step; return whether there may be more to do."""
        with self._steps.turn():
            is_more: bool = self._write(self._expirations.step)
        return is_more

    def _empty_wal(self) -> None:
        """Empty the write-ahead log after a removal: once for all that have been done by then."""
        self._begun += 1
        begun = self._begun
        with self._steps.turn():
            if self._emptied < begun:
                upto = self._begun
                self._read(self._removals.empty_wal)
                self._emptied = upto
