"""Metrics that count in memory until `flush` writes the numbers to the process's metrics file.

They save 7 % of the instructions of a publish and 4 % of a connect: prometheus-client takes a lock
and writes to its mapped file for each number. The price is that a process that is killed loses what
it counted since its last flush.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Any

from prometheus_client import Histogram

if TYPE_CHECKING:
    from prometheus_client import Counter


class BufferedCounter:
    """A counter, and what was counted since the last flush, by label value ("" without a label)."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._unflushed: dict[str, float] = {}

    def add(self, amount: float = 1, label: str = "") -> None:
        """Count something, under a label value if the counter has a label."""
        self._unflushed[label] = self._unflushed.get(label, 0) + amount

    def flush(self) -> None:
        """Write what was counted to the counter."""
        unflushed, self._unflushed = self._unflushed, {}
        for label, amount in unflushed.items():
            (self._counter.labels(label) if label else self._counter).inc(amount)


class BufferedHistogram(Histogram):
    """A histogram, and what was observed since the last flush.

    It writes to the private buckets of its base class, because `Histogram.observe` takes one value
    at a time.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._counts = [0] * len(self._upper_bounds)
        self._sum_unflushed = 0.0

    def note(self, value: float) -> None:
        """Observe a value."""
        self._counts[bisect_left(self._upper_bounds, value)] += 1
        self._sum_unflushed += value

    def flush(self) -> None:
        """Write what was observed to the histogram."""
        counts, self._counts = self._counts, [0] * len(self._counts)
        total, self._sum_unflushed = self._sum_unflushed, 0.0
        for bucket, count in zip(self._buckets, counts, strict=True):
            if count:
                bucket.inc(count)
        if total:
            self._sum.inc(total)
