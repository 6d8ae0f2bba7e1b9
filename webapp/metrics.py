"""Domain verbs in, Prometheus out: what one process did, told together with all others.

A verb adds to a number in memory, which costs a fraction of a microsecond; `flush`, which the hub
calls about once a second and before it is asked, writes the numbers where the other processes see
them (a memory-mapped file each, prometheus-client's multiprocess mode). A process that is killed
takes what it noted since its last flush along. Without gunicorn there is one process, and no file.

No label holds anything that a client sent.
"""

from __future__ import annotations

import os
import sys
import time
from bisect import bisect_left
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
    values,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from .errors import ServiceUnavailable
from .tasks import TASKS, uncounted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from .core.events import EventId

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"  # the library's
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_EVENTS = (0, 1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)
_ENDS = ("client_left", "drain", "error", "kicked", "max_age", "token_expired", "too_slow")
_GRAVE = ("connections", "full", "internal", "unavailable")  # of many: the hub's own fault
_MEMORY = Path("/proc/self/statm")

disable_created_metrics()  # type: ignore[no-untyped-call] # one more line for each, of no use here


def set_worker_id(number: int) -> None:
    """Say which of the processes this one is, before it has any metrics: who comes after one that
    died counts on from there, and there are never more files than processes at once.
    """
    values.ValueClass = values.MultiProcessValue(lambda: number)  # type: ignore[no-untyped-call]


class Metrics:
    """What this process did, and what all did."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._opened = self._count("streams_opened", "Streams that were opened.")
        self._ended = self._count("streams_ended", "Streams that ended, by reason.", _ENDS)
        self._refused = self._count("refused", "Requests and connections refused.", _GRAVE)
        self._skipped = self._count("skipped_items", "Items that tasks left out.", TASKS, "task")
        self._published = self._count("published_events", "Events that were put in the log.")
        self._delivered = self._count("delivered_events", "Events handed to readers.")
        self._bytes = self._count("delivered_bytes", "Bytes of these.")
        self._cpu = self._count("process_cpu_seconds", "Processor time, of all workers.")
        self._publishing = _Spread(
            "publish_seconds", "How long the log took to accept a request's events.", registry
        )
        self._handing = _Spread(
            "fanout_seconds", "From an event's arrival until all waiting readers had it.", registry
        )
        self._replays = _Spread(
            "replay_events", "Events a reader was given before it had caught up.", registry, _EVENTS
        )
        self._readers = self._gauge("readers", "Streams that are open, by worker.")
        self._pid = self._gauge("worker_pid", "Process id, by worker, as in the log's lines.")
        self._memory = self._gauge("process_resident_bytes", "Memory, by worker.")
        self._fill = self._gauge(
            "window_fill_ratio", "How full the fullest worker's window is, 0 to 1.", "livemax"
        )
        self._pending = [found for found in vars(self).values() if hasattr(found, "flush")]
        self._cpu_told = 0.0

    def _count(self, name: str, about: str, each: Iterable[str] = (), by: str = "reason") -> _Count:
        labels = [by] if each else []
        counter = Counter(f"tidings_{name}", about, labels, registry=self._registry)
        for label in each:
            counter.labels(label)  # a rate sees no first one come out of nothing
        return _Count(counter)

    def _gauge(self, name: str, about: str, mode: Any = "liveall") -> Gauge:
        return Gauge(f"tidings_{name}", about, registry=self._registry, multiprocess_mode=mode)

    def opened(self) -> None:
        """A stream was opened."""
        self._opened.add(1)

    def ended(self, reason: str) -> None:
        """A stream ended."""
        self._ended.add(1, reason)

    def refused(self, reason: str) -> None:
        """A request or a connection was refused."""
        self._refused.add(1, reason)

    def published(self, count: int, seconds: float) -> None:
        """The log accepted some events together."""
        self._published.add(count)
        self._publishing.note(seconds)

    def delivered(self, count: int, size: int) -> None:
        """Readers were handed some events, of so many bytes together."""
        self._delivered.add(count)
        self._bytes.add(size)

    def fanout_done(self, seconds: float) -> None:
        """All readers that waited have what arrived so long ago."""
        self._handing.note(seconds)

    def replay_done(self, count: int) -> None:
        """A reader was given so many events until it had caught up."""
        self._replays.note(count)

    def flush(self, readers: int, fill: float) -> None:
        """Let all processes see what was noted here.

        :param readers: how many streams are open.
        :param fill: how full the window is, 0 to 1.
        """
        cpu = time.process_time()
        self._cpu.add(cpu - self._cpu_told)
        self._cpu_told = cpu
        for task, count in uncounted():
            self._skipped.add(count, task)
        for pending in self._pending:
            pending.flush()
        self._readers.set(readers)
        self._fill.set(fill)
        self._pid.set(os.getpid())
        with suppress(OSError):  # not Linux, or no file is left to look with
            pages = int(_MEMORY.read_bytes().split()[1])
            self._memory.set(pages * os.sysconf("SC_PAGESIZE"))

    def text(self, extra: Iterable[Metric]) -> bytes:
        """Return all for Prometheus.

        :param extra: what the one that is asked adds.
        """
        shown = CollectorRegistry()
        shown.register(_Shown([*self._families(), *extra]))
        return generate_latest(shown)

    def totals(self) -> dict[str, Any]:
        """Return what the console shows."""
        found: defaultdict[str, dict[str, float]] = defaultdict(dict)
        for family in self._families():
            for sample in family.samples:
                label = next(iter(sample.labels.values()), "")
                found[sample.name.removeprefix("tidings_")][label] = sample.value
        readers, pids = found["readers"], found["worker_pid"]
        return {
            "readers": round(sum(readers.values())),
            "opened": _one(found["streams_opened_total"]),
            "ended": _whole(found["streams_ended_total"]),
            "refused": _whole(found["refused_total"]),
            "published": _one(found["published_events_total"]),
            "delivered": _one(found["delivered_events_total"]),
            "delivered_bytes": _one(found["delivered_bytes_total"]),
            "workers": [
                {"pid": round(pids[worker]), "readers": round(readers[worker])}
                for worker in sorted(pids.keys() & readers.keys(), key=lambda it: int(it or 0))
                if pids[worker]  # else it has only begun
            ],
        }

    def _families(self) -> Iterator[Metric]:
        """Yield what all processes noted; of one worker's, which one is the label `worker`.

        :raises Unavailable: their files cannot be read.
        """
        directory = os.environ.get(_DIRECTORY)
        if not directory:
            yield from self._registry.collect()
            return
        for family in _read(directory):
            for index, sample in enumerate(family.samples):
                if "pid" in sample.labels:
                    labels = {"worker": sample.labels["pid"]}
                    family.samples[index] = sample._replace(labels=labels)
            yield family


def about_the_log(floor: EventId | None, head: EventId | None) -> Iterator[Metric]:
    """Yield where the log begins and ends; None, None: it is away."""
    up = "Whether the log can be reached."
    yield GaugeMetricFamily("tidings_log_up", up, value=floor is not None)
    for name, position in (("floor", floor), ("head", head)):
        about = f"When the event at the log's {name} was published."
        family = GaugeMetricFamily(f"tidings_log_{name}_timestamp_seconds", about)
        if position is not None:
            family.add_metric([], position.ms / 1000)
        yield family


def about_the_build(version: str) -> Metric:
    """Return which version runs, as a label."""
    about, labels = "Always 1; its labels say what runs.", ["version", "python"]
    family = GaugeMetricFamily("tidings_build_info", about, labels=labels)
    family.add_metric([version, ".".join(map(str, sys.version_info[:3]))], 1)
    return family


def _read(directory: str) -> Iterable[Metric]:
    try:
        collector = MultiProcessCollector(None, directory)  # type: ignore[no-untyped-call]
        files = [str(path) for path in Path(directory).glob("*.db") if _begun(path)]
        found: Iterable[Metric] = collector.merge(files)  # type: ignore[no-untyped-call]
    except (OSError, ValueError):
        detail = "The workers' numbers cannot be read."
        remedy = f"Restart the hub, and let nobody tidy up in {Path(directory).parent}."
        raise ServiceUnavailable(detail, remedy) from None
    return found


def _begun(path: Path) -> bool:
    """Whether there is anything in a worker's file: a worker that begins makes it empty."""
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:  # of one that has just gone
        return False


class _Count:
    """A counter, and what was counted since the last flush, by its label if it has one."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._fresh: dict[str, float] = {}

    def add(self, amount: float, label: str = "") -> None:
        self._fresh[label] = self._fresh.get(label, 0) + amount

    def flush(self) -> None:
        fresh, self._fresh = self._fresh, {}
        for label, amount in fresh.items():
            (self._counter.labels(label) if label else self._counter).inc(amount)


class _Spread(Histogram):
    """A histogram, and what was observed since the last flush."""

    def __init__(
        self,
        name: str,
        about: str,
        registry: CollectorRegistry,
        buckets: Sequence[float] = _SECONDS,
    ) -> None:
        super().__init__(f"tidings_{name}", about, registry=registry, buckets=buckets)
        self._counts = [0] * len(self._upper_bounds)
        self._fresh = 0.0

    def note(self, value: float) -> None:
        self._counts[bisect_left(self._upper_bounds, value)] += 1
        self._fresh += value

    def flush(self) -> None:
        counts, self._counts = self._counts, [0] * len(self._counts)
        fresh, self._fresh = self._fresh, 0.0
        for bucket, count in zip(self._buckets, counts, strict=True):
            if count:
                bucket.inc(count)
        if fresh:
            self._sum.inc(fresh)


class _Shown(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families


def _one(found: dict[str, float]) -> int:
    return round(found.get("", 0))


def _whole(found: dict[str, float]) -> dict[str, int]:
    return {label: round(value) for label, value in found.items() if value}
