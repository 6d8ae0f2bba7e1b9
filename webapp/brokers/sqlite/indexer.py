"""Keeps the index by topic near the head of the event log, in steps between commits."""

from __future__ import annotations

from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING

import gevent
from gevent.event import Event as Signal

from ...backoff import jitter
from ...errors import ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from .topic_index import TopicIndex

    InThread = Callable[[Callable[[], bool]], bool]

_MANY_EVENTS = 10_000  # that this process appends: then a step does not wait for its time
_INTERVAL_S = 1.0  # between two looks, also for what other processes appended
_PAUSE_BOUNDS_S = 0.01, 0.05  # between two steps, for the commits of other processes


class Indexer:
    """Runs the steps for one process. Those of others run steps, too: any of them may be first.

    :param read: calls a function in a thread that reads; `write`: in the one that commits.
    """

    def __init__(self, index: TopicIndex, read: InThread, write: InThread) -> None:
        self._index, self._read, self._write = index, read, write
        self._appended = 0
        self._many = Signal()

    def count(self, events: int) -> None:
        """Note that this process has appended some events."""
        self._appended += events
        if self._appended >= _MANY_EVENTS:
            self._appended = 0
            self._many.set()

    def run(self) -> None:
        """Run steps until the greenlet is killed."""
        while True:
            self._many.wait(_INTERVAL_S * jitter(0.5, 1))
            self._many.clear()
            with suppress(ServiceUnavailable):  # the follower logs it
                if self._read(self._index.is_behind):
                    self._catch_up()

    def _catch_up(self) -> None:
        while True:
            began = monotonic()
            if not self._write(self._index.step):
                return
            # Others try again and again to lock the file: leave it unlocked for half of the time.
            shortest, longest = _PAUSE_BOUNDS_S
            gevent.sleep(min(max(monotonic() - began, shortest), longest))
