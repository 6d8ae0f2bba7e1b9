"""Keeps the index by topic near the head of the event log, in steps between commits."""

from __future__ import annotations

from contextlib import suppress
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING, Any

import gevent
from gevent.event import Event as Signal
from gevent.lock import Semaphore

from ...backoff import jitter
from ...errors import ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from .topic_index import TopicIndex

# When this process has appended so much, it is time for a step: each read walks through it. To walk
# through an event costs as much as some bytes more.
_MANY_BYTES, _EVENT_BYTES = 2 << 20, 400
_INTERVAL_S = 5.0  # between two looks, whatever was appended, by whichever process
_PAUSE_BOUNDS_S = 0.005, 0.05  # between two steps, for the commits of other processes
_PATIENCE_S = 5.0  # how long a read of many pages waits until the index is near the head
_CHECKPOINT_STEPS = 8  # after so many steps in a row: each writes up to 1 MB


class Indexer:
    """Runs the steps for one process. Those of others run steps, too: any of them may be first.

    :param read: calls a function in a thread that reads.
    :param write: calls a function in the thread that commits.
    """

    def __init__(
        self, index: TopicIndex, read: Callable[..., Any], write: Callable[..., Any]
    ) -> None:
        self._index, self._read, self._write = index, read, write
        self._appended_bytes = 0
        self._many = Signal()
        self._one_at_a_time = Semaphore(1)

    def note(self, events: int, size: int) -> None:
        """Note that this process has appended some events.

        :param size: bytes of their frames.
        """
        self._appended_bytes += size + events * _EVENT_BYTES
        if self._appended_bytes >= _MANY_BYTES:
            self._appended_bytes = 0
            self._many.set()

    def run(self) -> None:
        """Run steps until the greenlet is killed."""
        while True:
            with suppress(ServiceUnavailable):  # the follower logs it
                if self._read(self._index.is_behind):
                    self._run_steps()
            self._many.wait(_INTERVAL_S * jitter(0.5, 1))
            self._many.clear()

    def catch_up(self) -> None:
        """Have the index near the head, before a read of many pages: each page walks through the
        events that are not in the index. Where that takes long or is impossible, they do walk.
        """
        until = monotonic() + _PATIENCE_S
        with suppress(ServiceUnavailable):
            while self._read(self._index.is_behind) and monotonic() < until:
                self._run_steps()
                gevent.sleep(_PAUSE_BOUNDS_S[0])  # another process may run the steps

    def _run_steps(self) -> None:
        with self._one_at_a_time:
            self._run_next_steps()

    def _run_next_steps(self) -> None:
        upto = None
        for number in count(1):
            began = monotonic()
            # Prepared apart from the thread that commits: publishers need not wait for that.
            step = self._read(self._index.prepare_step, upto)
            upto = self._write(step.commit) if step else None
            if upto is None:
                return
            # Others try again and again to lock the file, which is locked for half of a step.
            shortest, longest = _PAUSE_BOUNDS_S
            gevent.sleep(min(max((monotonic() - began) / 2, shortest), longest))
            if number % _CHECKPOINT_STEPS == 0:
                self._read(self._index.checkpoint)
