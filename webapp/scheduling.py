"""Hand the loop over now and then: work on thousands must not hold it."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, TypeVar

import gevent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

T = TypeVar("T")

_SLICE = 0.002  # seconds that a piece of work keeps the loop for itself
_STRIDE = 64  # readers between two looks at the clock: half a millisecond
_LONGEST_REST_S = 0.05  # the machine may have stood still meanwhile
_SOON = 1e-9  # seconds: over by the time that the loop has looked at its sockets


def yield_to_loop() -> None:
    """Let all others have their turn, those too whose sockets became ready meanwhile.

    `gevent.sleep(0)` is not enough: the loop runs fifty rounds of such sleepers before it looks
    at a socket again, a tenth of a second where each round takes its slice of time.
    """
    gevent.sleep(_SOON)


def rest(seconds: float) -> None:
    """Do nothing for a while."""
    gevent.sleep(seconds)


class TimeSlice:
    """The pace of one piece of work."""

    def __init__(self) -> None:
        self._since = monotonic()
        self._worked = 0.0  # seconds before the last yield to the loop

    @property
    def worked(self) -> float:
        """Seconds of work so far, without the time in which others ran."""
        return self._worked + monotonic() - self._since

    def checkpoint(self) -> None:
        """Let others run if a slice of time has passed."""
        worked = monotonic() - self._since
        if worked > _SLICE:
            self._worked += worked
            self._pause(worked)
            self._since = monotonic()

    def _pause(self, _: float) -> None:
        yield_to_loop()

    def chunks(self, items: Sequence[T]) -> Iterator[Sequence[T]]:
        """Yield all items, some at a time, for work that is less than a look at the clock."""
        for start in range(0, len(items), _STRIDE):
            yield items[start : start + _STRIDE]
            self.checkpoint()


class BackgroundSlice(TimeSlice):
    """The pace of work that can wait: it leaves half of the time to others."""

    def _pause(self, worked: float) -> None:
        gevent.sleep(min(worked, _LONGEST_REST_S))


def cooperative(items: Iterable[T], pace: TimeSlice | None = None) -> Iterator[T]:
    """Yield all items, and let others run now and then.

    :param pace: of the work that this is a part of; None: it is one by itself.
    """
    pace = pace or TimeSlice()
    for item in items:
        yield item
        pace.checkpoint()
