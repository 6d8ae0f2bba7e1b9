"""The metrics of all worker processes, for Prometheus.

A counter such as `published` is a number in memory. `flush` writes these numbers to a
memory-mapped file of the process (prometheus-client's multiprocess mode), where the others read
them; the hub calls it about once a second and before each scrape. Without gunicorn there is one
process and no file.

No label contains anything that a client sent.
"""

from __future__ import annotations

import os
import sys
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    disable_created_metrics,
    generate_latest,
    values,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from ..core.version import __version__
from ..errors import ServiceUnavailable
from ..tasks import TASKS, take_uncounted
from .metric_buffers import BufferedCounter, BufferedHistogram
from .metrics_folder import find_folder
from .samples import SECONDS_BOUNDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ..core.events import EventId

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
OF_CONSOLE = "console"
"""The reason of refusals of the console's own requests."""
_EVENTS_BUCKETS = (0, 1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)
_END_REASONS = (
    "client_left",
    "complete",
    "drain",
    "ended",
    "error",
    "gap",
    "kicked",
    "max_age",
    "removed",
    "token_expired",
    "too_slow",
)
_SERVER_FAULTS = ("connections", "full", "internal", "unavailable")  # of all reasons to refuse
_USAGE_INTERVAL_S = 0.5  # at least: each request for the numbers flushes them
_MEMORY_FILE = Path("/proc/self/statm")

disable_created_metrics()  # type: ignore[no-untyped-call] # an unused line for each


def set_worker_id(number: int) -> None:
    """Set the number of this worker, before it has any metrics. A worker that replaces a dead one
    has its number and continues its counters, so there are never more files than workers.
    """
    values.ValueClass = values.MultiProcessValue(lambda: number)  # type: ignore[no-untyped-call]


class Numbers(NamedTuple):
    """The numbers of all processes."""

    values: dict[str, dict[str, float]]
    """By name without `tidings_`, then by the value of the label; "" where there is none."""
    versions: dict[str, str]
    """The version of each worker."""

    def total(self, name: str) -> float:
        """Return the sum of a number over all values of its label, without the console's."""
        return sum(value for label, value in self.values[name].items() if label != OF_CONSOLE)

    def by_label(self, name: str) -> dict[str, int]:
        """Return a count by the value of its label, without those that are 0."""
        return {label: round(value) for label, value in self.values[name].items() if value}


class Metrics:
    """The metrics of this process, and the sums over all processes.

    The public counters and histograms may be added to at any time.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._buffers: list[BufferedCounter | BufferedHistogram] = []
        self.opened = self._counter("streams_opened", "Streams that were opened.")
        self.ended = self._counter("streams_ended", "Streams that ended, by reason.", _END_REASONS)
        self.refused = self._counter(
            "refused", "Requests and connections that were refused, by reason.", _SERVER_FAULTS
        )
        self.published = self._counter(
            "published_events", "Events that were appended to the event log."
        )
        self.deleted = self._counter("deleted_events", "Events that were removed by requests.")
        self.delivered = self._counter("delivered_events", "Events sent to subscribers.")
        self.delivered_bytes = self._counter(
            "delivered_bytes", "Bytes of the events sent to subscribers."
        )
        self.publish_seconds = self._histogram(
            "publish_seconds", "How long the event log took to accept a request's events."
        )
        self.fanout_seconds = self._histogram(
            "fanout_seconds", "From an event's arrival until all parked subscribers have it."
        )
        self.replay_events = self._histogram(
            "replay_events", "Events sent to a subscriber until it had caught up.", _EVENTS_BUCKETS
        )
        self.stuck_clients = self._counter(
            "stuck_clients", "Times that a client came back five times to the same event."
        )
        self._skipped = self._counter(
            "skipped_items", "Items that a task skipped after an error.", TASKS, "task"
        )
        self._cpu = self._counter("process_cpu_seconds", "Processor time of all workers.")
        self._subscribers = self._gauge("readers", "Open streams, by worker.")
        self._pid = self._gauge("worker_pid", "Process id, by worker, as in log lines.")
        self._memory = self._gauge("process_resident_bytes", "Resident memory, by worker.")
        self._fill = self._gauge(
            "window_fill_ratio",
            "How full the fullest window of a worker is, 0 to 1.",
            mode="livemax",
        )
        self._usage = self._gauge("worker_cpu_ratio", "Processor time a second, by worker.")
        self._start = self._gauge(
            "worker_start_timestamp_seconds", "When a worker began, in Unix time.", ["version"]
        )
        self._began, self._cpu_counted_s = time.time(), 0.0
        self._usage_from = time.monotonic(), time.process_time()

    def _counter(
        self, name: str, help: str, label_values: Iterable[str] = (), label: str = "reason"
    ) -> BufferedCounter:
        labels = [label] if label_values else []
        counter = Counter(f"tidings_{name}", help, labels, registry=self._registry)
        for value in label_values:
            counter.labels(value)  # begins at 0: a rate misses an increase from nothing
        self._buffers.append(buffered := BufferedCounter(counter))
        return buffered

    def _histogram(
        self, name: str, help: str, buckets: Sequence[float] = SECONDS_BOUNDS
    ) -> BufferedHistogram:
        name = f"tidings_{name}"
        buffered = BufferedHistogram(name, help, registry=self._registry, buckets=buckets)
        self._buffers.append(buffered)
        return buffered

    def _gauge(
        self, name: str, help: str, labels: Sequence[str] = (), mode: Any = "liveall"
    ) -> Gauge:
        name = f"tidings_{name}"
        return Gauge(name, help, labels, registry=self._registry, multiprocess_mode=mode)

    def flush(self, subscribers: int, fill_ratio: float) -> None:
        """Write what was counted since the last flush to where all processes read it.

        :param subscribers: how many streams are open.
        :param fill_ratio: how full the window is, 0 to 1.
        """
        cpu_s = time.process_time()
        self._cpu.add(cpu_s - self._cpu_counted_s)
        self._cpu_counted_s = cpu_s
        for task, count in take_uncounted():
            self._skipped.add(count, task)
        for buffer in self._buffers:
            buffer.flush()
        self._subscribers.set(subscribers)
        self._fill.set(fill_ratio)
        self._pid.set(os.getpid())
        self._start.labels(__version__).set(self._began)
        self._measure_usage(cpu_s)
        with suppress(OSError):  # not Linux, or the process has no free file descriptor
            pages = int(_MEMORY_FILE.read_bytes().split()[1])
            self._memory.set(pages * os.sysconf("SC_PAGESIZE"))

    def _measure_usage(self, cpu_s: float) -> None:
        now, (since, cpu_since_s) = time.monotonic(), self._usage_from
        if now - since >= _USAGE_INTERVAL_S:
            self._usage.set((cpu_s - cpu_since_s) / (now - since))
            self._usage_from = now, cpu_s

    def text(self, extra: Iterable[Metric]) -> bytes:
        """Return the metrics of all processes in Prometheus' text format.

        :param extra: metrics that the answering process adds.
        """
        return generate_latest(_StaticCollector([*self._families(), *extra]))

    def numbers(self) -> Numbers:
        """Return the numbers of all processes.

        :raises ServiceUnavailable: the workers' files cannot be read.
        """
        found = Numbers(defaultdict(dict), {})
        for family in self._families():
            for sample in family.samples:
                label = next(iter(sample.labels.values()), "")
                if version := sample.labels.get("version"):
                    label = sample.labels.get("worker", "")
                    found.versions[label] = version
                found.values[sample.name.removeprefix("tidings_")][label] = sample.value
        return found

    def _families(self) -> Iterator[Metric]:
        """Yield the metrics of all processes. Those of one worker have the label `worker`.

        :raises ServiceUnavailable: the workers' files cannot be read.
        """
        directory = find_folder()
        if not directory:
            yield from self._registry.collect()
            return
        for family in _read(directory):
            for index, sample in enumerate(family.samples):
                if "pid" in sample.labels:
                    labels = dict(sample.labels)
                    labels = {"worker": labels.pop("pid"), **labels}
                    family.samples[index] = sample._replace(labels=labels)
            yield family


def log_metrics(floor: EventId | None, head: EventId | None) -> Iterator[Metric]:
    """Yield the metrics of the event log from its bounds; None, None: it is unavailable."""
    up = "Whether the event log is available: 1 or 0."
    yield GaugeMetricFamily("tidings_log_up", up, value=floor is not None)
    for name, position in (("floor", floor), ("head", head)):
        about = f"When the event at the {name} of the event log was published, in Unix time."
        family = GaugeMetricFamily(f"tidings_log_{name}_timestamp_seconds", about)
        if position is not None:
            family.add_metric([], position.ms / 1000)
        yield family


def build_metric(version: str) -> Metric:
    """Return a metric whose labels are the running versions."""
    about, labels = "Always 1; its labels are the running versions.", ["version", "python"]
    family = GaugeMetricFamily("tidings_build_info", about, labels=labels)
    family.add_metric([version, ".".join(map(str, sys.version_info[:3]))], 1)
    return family


def _read(directory: str) -> Iterable[Metric]:
    try:
        collector = MultiProcessCollector(None, directory)  # type: ignore[no-untyped-call]
        files = [str(path) for path in Path(directory).glob("*.db") if _has_content(path)]
        found: Iterable[Metric] = collector.merge(files)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "one is damaged"
        detail = f"The files with the workers' metrics cannot be read: {reason}."
        remedy = (
            "If too many files are open, raise their limit. Otherwise restart the hub, and let"
            f" nothing delete files in {Path(directory).parent}."
        )
        raise ServiceUnavailable(detail, remedy) from None
    return found


def _has_content(path: Path) -> bool:
    """Return whether a worker's file has content; the file of a starting worker is empty."""
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:  # its worker has just stopped
        return False


class _StaticCollector(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families
