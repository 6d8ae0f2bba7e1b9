"""When to yield to the event loop: work on many items must let everything else run.

A thread without a loop yields to none: other threads run by themselves.
"""

from __future__ import annotations

import os
import time
from collections import deque
from time import monotonic, process_time
from typing import TYPE_CHECKING, Any, TypeVar

import gevent
from gevent._hub_local import get_hub_if_exists
from gevent.event import Event as Signal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

T = TypeVar("T")

_SLICE_S = 0.002  # that a piece of work runs before it yields
_CHUNK_ITEMS = 64  # subscribers written to between two looks at the clock: half a millisecond
_LONGEST_PAUSE_S = 0.05  # of background work: the machine may have stood still
_SOON_S = 1e-9  # a timer, which the loop runs after it has looked for I/O; `sleep(0)` is none


def _has_loop() -> bool:
    """Return whether this thread has a loop. One that has not turned yet is false as a greenlet."""
    return get_hub_if_exists() is not None


def yield_to_loop() -> None:
    """Let all others run, and those too whose sockets have become ready.

    `gevent.sleep(0)` is not enough: the loop runs fifty rounds of such sleepers before it looks
    for I/O again, which is a tenth of a second where each round takes its slice of time.
    """
    if _has_loop():
        gevent.sleep(_SOON_S)


def let_woken_run() -> None:
    """Let those run that were woken before this, and those that they wake, without a look for I/O.
    Each of them runs until it yields.
    """
    if _has_loop():
        gevent.sleep(0)
        gevent.sleep(0)


def sleep(seconds: float) -> None:
    """Let others run for some seconds."""
    (gevent.sleep if _has_loop() else time.sleep)(seconds)


class Turns:
    """Lets greenlets pass in each turn of the event loop; the others wait in order.

    :param slice_s: seconds of a turn in which they pass; at least one passes in each turn.
    """

    def __init__(self, slice_s: float = _SLICE_S) -> None:
        self.slice_s = slice_s
        self._turn: int | None = None  # the loop's, in which a greenlet passed
        self._turn_began = 0.0
        self._waiting: deque[Signal] = deque()

    def wait(self) -> None:
        """Wait for a turn with time left. The present one may be it."""
        if self._waiting or not self.has_time():
            self._wait_in_line(pause=False)

    def pause(self) -> None:
        """Wait for a later turn."""
        if _has_loop():
            self._wait_in_line(pause=True)

    def has_time(self) -> bool:
        """Whether a slice is left of this turn of the loop."""
        turn = gevent.get_hub().loop.iteration
        if turn == self._turn:
            return monotonic() - self._turn_began < self.slice_s
        self._turn, self._turn_began = turn, monotonic()
        return True

    def _wait_in_line(self, *, pause: bool) -> None:
        signal = Signal()
        self._waiting.append(signal)
        try:
            if self._waiting[0] is not signal:
                signal.wait()
            while pause or not self.has_time():
                yield_to_loop()
                pause = False
        finally:
            first = self._waiting[0] is signal
            self._waiting.remove(signal)
            if first and self._waiting:
                self._waiting[0].set()


class TimeSlice:
    """The slices of time of one piece of work."""

    def __init__(self) -> None:
        self._since = monotonic()
        self._worked = 0.0  # seconds before the last yield to the loop

    @property
    def worked(self) -> float:
        """Seconds of work so far, without the time in which others ran."""
        return self._worked + monotonic() - self._since

    def checkpoint(self) -> None:
        """Yield to the loop if the slice is over."""
        worked = monotonic() - self._since
        if worked > _SLICE_S:
            self._worked += worked
            self._pause(worked)
            self._since = monotonic()

    def _pause(self, _: float) -> None:
        yield_to_loop()

    def chunks(self, items: Sequence[T]) -> Iterator[Sequence[T]]:
        """Yield all items, some at a time, with a checkpoint after each chunk. For work on an item
        that costs less than a checkpoint.
        """
        for start in range(0, len(items), _CHUNK_ITEMS):
            yield items[start : start + _CHUNK_ITEMS]
            self.checkpoint()


class BackgroundSlice(TimeSlice):
    """The slices of work that can wait: it leaves half of the time to others."""

    def _pause(self, worked: float) -> None:
        gevent.sleep(min(worked, _LONGEST_PAUSE_S))


class RequestSlice(TimeSlice):
    """The slices of work on one request. Of all requests, one has a slice in each turn of the loop:
    however many there are, events are delivered between two slices.

    :param check: called before each slice but the first; what it raises ends the work.
    """

    def __init__(self, check: Callable[[], object] = bool) -> None:
        super().__init__()
        self._check = check

    def _pause(self, _: float) -> None:
        request_turns.pause()
        self._check()


request_turns = Turns(0)


def cooperative(items: Iterable[T], time_slice: TimeSlice | None = None) -> Iterator[T]:
    """Yield all items, with a checkpoint after each.

    :param time_slice: of the work that this is a part of; None: it is a piece of work by itself.
    """
    time_slice = time_slice or TimeSlice()
    for item in items:
        yield item
        time_slice.checkpoint()


def map_cooperatively(
    function: Callable[..., T], first: Sequence[Any], *others: Sequence[Any]
) -> list[T]:
    """Return what a function returns for each item. Yield to the loop if there are many items."""
    results = map(function, first, *others)
    if len(first) == 1:
        return list(results)
    found, until = list[T](), monotonic() + _SLICE_S
    for result in results:  # as `cooperative` does, at half the cost
        found.append(result)
        if monotonic() > until:
            yield_to_loop()
            until = monotonic() + _SLICE_S
    return found


class IdleClock:
    """Counts the time in which the process had nothing to do: it did not run, and this thread did
    not wait for a CPU that others had. On other systems than Linux, such waits count as idle. All
    calls must come from the same thread.
    """

    def __init__(self) -> None:
        self._file: int | None = None
        self._since = self._busy_then = 0.0

    def restart(self) -> None:
        """Count from now on."""
        self._since, self._busy_then = monotonic(), self._busy()

    def seconds(self) -> float:
        """Return for how many seconds it was idle since the last `restart`."""
        return max(0.0, monotonic() - self._since - (self._busy() - self._busy_then))

    def _busy(self) -> float:
        try:
            if self._file is None:
                self._file = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
            waited = int(os.pread(self._file, 100, 0).split()[1]) / 1e9
        except OSError:
            waited = 0.0
        return process_time() + waited
