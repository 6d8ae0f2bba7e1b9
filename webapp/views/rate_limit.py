"""How many events a second each client may publish."""

from __future__ import annotations

from collections import OrderedDict
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_MAX_CLIENTS = 10_000  # whose buckets are remembered


class Rate:
    """One token bucket for each client: it fills steadily and holds one second's worth of events.

    A client is known by its address or by a hash of its token.

    :param per_second: events; 0: any number.
    :param clock: monotonic seconds.
    """

    def __init__(self, per_second: float, clock: Callable[[], float] = monotonic) -> None:
        self.burst = max(1.0, per_second) if per_second else float("inf")
        """How many events a full bucket holds."""
        self._per_second = per_second
        self._clock = clock
        # When each bucket will be full again; the least recently used client first.
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def take(self, client: str, count: int) -> float:
        """Take `count` events out of a client's bucket; 0 only checks that it holds one.

        A full bucket gives more than it holds and then fills from below zero, so over time no
        client gets more than the rate.

        :returns: 0.0, or the seconds after which it would succeed; then nothing was taken.
        """
        if not self._per_second:
            return 0.0
        now = self._clock()
        full_at = max(now, self._full_at.get(client, now))
        needed = min(max(count, 1), self.burst)
        wait = full_at - now - (self.burst - needed) / self._per_second
        if wait > 0:
            return wait
        if count:
            self._full_at[client] = full_at + count / self._per_second
            self._full_at.move_to_end(client)
            if len(self._full_at) > _MAX_CLIENTS:
                self._full_at.popitem(last=False)
        return 0.0
