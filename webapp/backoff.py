"""Pauses between tries: exponential, bounded, and random.

Processes that lost the same server at once must not come back to it at once.
"""

from __future__ import annotations

from random import SystemRandom

_RANDOM = SystemRandom()  # it has no state that workers could share after a fork
_MAX_DOUBLINGS = 30  # a larger power could overflow a float


def jitter(low: float, high: float) -> float:
    """Return a random number from `low` to `high`, for times that must differ among many."""
    return low + (high - low) * _RANDOM.random()


class Backoff:
    """The pauses after failures in a row: each is twice as long as the one before, up to a limit.

    It only computes; the caller waits, in its own way.

    :param first_s: seconds of the first pause.
    :param longest_s: seconds of the longest.
    """

    __slots__ = ("failures", "first_s", "longest_s")

    def __init__(self, first_s: float, longest_s: float) -> None:
        self.first_s = first_s
        self.longest_s = longest_s
        self.failures = 0
        """Failures since the last success. 0: the next one is the first, which may be logged."""

    def next(self) -> float:
        """Count a failure. Return how many seconds to wait: 50 to 100 % of the full pause."""
        pause = min(self.longest_s, self.first_s * 2.0 ** min(self.failures, _MAX_DOUBLINGS))
        self.failures += 1
        return pause * jitter(0.5, 1)

    def reset(self) -> bool:
        """Count a success. Return whether there were failures before it."""
        failed, self.failures = self.failures > 0, 0
        return failed
