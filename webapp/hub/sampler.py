"""Takes a sample of the machine's numbers every few seconds, unless another worker does."""

from __future__ import annotations

import logging
from math import nan
from time import time
from typing import TYPE_CHECKING

import gevent

from ..config import folders
from ..errors import ServiceUnavailable
from ..monitoring.metrics_folder import find_folder
from ..monitoring.recent_refusals import RecentRefusals
from ..monitoring.samples import STEP_S, Sample, Samples
from ..monitoring.server_warnings import server_warnings
from ..tasks import Skipping
from .subscriber_counts import SubscriberCounts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..monitoring.metrics import Metrics
    from .delivery.feeds import Feed
    from .log_probe import LogProbe

_SAMPLING = Skipping("sample")
_COUNTERS = (
    "published_events_total",
    "delivered_events_total",
    "refused_total",
    "process_cpu_seconds_total",
)


class Sampler:
    """Takes samples as long as the hub runs.

    :param flush: lets `metrics` have the newest numbers of this process.
    :param feeds: of this process.
    """

    def __init__(
        self,
        metrics: Metrics,
        log_probe: LogProbe,
        flush: Callable[[], None],
        feeds: Iterable[Feed],
    ) -> None:
        self._metrics = metrics
        self._log_probe = log_probe
        self._flush = flush
        folder = find_folder()
        self.samples = Samples(folder, time())
        self.refusals = RecentRefusals(folder)
        self.subscribers = SubscriberCounts(folder, feeds)

    def run(self) -> None:
        """Take samples; never returns."""
        logging.getLogger(folders.NAME).addHandler(server_warnings)
        while True:
            with _SAMPLING:
                self.sample()
            with _SAMPLING:
                self.refusals.share()
                server_warnings.share()
            with _SAMPLING:
                self.subscribers.tick()
            gevent.sleep(STEP_S - time() % STEP_S)

    def sample(self) -> None:
        """Take a sample, unless another worker does.

        :raises OSError: it cannot be stored.
        :raises ServiceUnavailable: the numbers of the workers cannot be read.
        """
        try:
            self.samples.add(int(time() // STEP_S), time(), self._take)
        except BlockingIOError:
            return  # another worker does

    def _take(self, tick: int) -> Sample:
        self._flush()
        log_events = log_bytes = nan
        try:
            usage = self._log_probe.usage()
        except ServiceUnavailable:
            pass  # the console shows that the event log is unavailable
        else:
            log_events, log_bytes = usage.events, nan if usage.bytes is None else usage.bytes
        found = self._metrics.numbers()
        return Sample(
            tick,
            time(),
            (found.total("readers"), found.total("process_resident_bytes"), log_events, log_bytes),
            tuple(map(found.total, _COUNTERS)),
            tuple(found.values["fanout_seconds_bucket"].values()),
        )
