"""Turn samples into what the console plots: one value for each step of time."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any

from .samples import COUNTERS, GAUGES, POINTS, SECONDS_BOUNDS, STEP_S

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .samples import Sample

_QUANTILES = {"fanout_p50": 0.5, "fanout_p99": 0.99}


def series(samples: Mapping[int, Sample], since: float, now: float) -> dict[str, Any]:
    """Return the numbers at each step, as lists of one length; None in a list: it is not known.

    :param since: only steps after this time (Unix seconds).
    :param now: Unix seconds. Samples of the future are left out: the clock was ahead once.
    """
    ticks = [tick for tick in samples if tick * STEP_S <= now]
    last = max(ticks, default=0)
    first = max(min(ticks, default=0), last - POINTS + 1, int(since // STEP_S) + 1)
    shown = range(first, last + 1 if ticks else first)
    points = [_point(samples.get(tick - 1), samples.get(tick)) for tick in shown]
    names = (*GAUGES, *COUNTERS, *_QUANTILES)
    return {
        "step": STEP_S,
        "from": first * STEP_S if points else None,
        "to": last * STEP_S if points else None,
        **{name: [point.get(name) for point in points] for name in names},
    }


def _point(before: Sample | None, sample: Sample | None) -> dict[str, float | None]:
    """Return the numbers of a sample. Rates are means since the sample before."""
    if sample is None:
        return {}
    found: dict[str, float | None] = dict(zip(GAUGES, map(_known, sample.gauges), strict=True))
    if before is None or sample.time <= before.time:
        return found
    seconds = sample.time - before.time
    for name, new, old in zip(COUNTERS, sample.counters, before.counters, strict=True):
        found[name] = _known((new - old) / seconds) if new >= old else None
    counts = [new - old for new, old in zip(sample.fanout, before.fanout, strict=True)]
    for name, part in _QUANTILES.items():
        found[name] = _quantile(part, counts)
    return found


def _quantile(part: float, counts: Sequence[float]) -> float | None:
    """Return the value below which a part of the values lies, as Prometheus estimates it.

    :param counts: for each bucket, how many values were in it or below.
    """
    total = counts[-1]
    if not total > 0 or min(counts) < 0:
        return None
    wanted, below, lower = part * total, 0.0, 0.0
    for upper, count in zip(SECONDS_BOUNDS, counts, strict=False):
        if count >= wanted:
            return lower + (upper - lower) * (wanted - below) / max(count - below, 1)
        below, lower = count, upper
    return lower  # over the highest bound


def _known(value: float) -> float | None:
    return round(value, 4) if isfinite(value) else None
