"""The task for timers: heartbeats, the ages of streams and events, metrics."""

from __future__ import annotations

from time import monotonic, time
from typing import TYPE_CHECKING

from ..core.events import EventId
from ..scheduling import TimeSlice, cooperative, sleep
from ..tasks import Skipping
from .delivery.dispatcher import REFRESH_FRACTION

if TYPE_CHECKING:
    from collections.abc import Collection

    from ..config.settings import Settings
    from ..core.window import Window
    from ..monitoring.metrics import Metrics
    from .delivery.fanout import FanOut
    from .delivery.subscriber import Subscriber

_TICKING = Skipping("tick")


class Timers:
    """The timers of one hub.

    :param subscribers: all whose streams are open.
    """

    def __init__(
        self,
        settings: Settings,
        window: Window,
        fanout: FanOut,
        metrics: Metrics,
        subscribers: Collection[Subscriber],
    ) -> None:
        self._settings = settings
        self._window = window
        self._fanout = fanout
        self._metrics = metrics
        self._subscribers = subscribers

    def run(self) -> None:
        """Run them; never returns."""
        heartbeat, refreshed = self._settings.heartbeat, monotonic()
        while True:
            sleep(min(1.0, heartbeat / 4))
            now = monotonic()
            with _TICKING:
                self._expire_window()
            self.flush_metrics()
            if now - refreshed >= self._settings.history_age * REFRESH_FRACTION:
                refreshed = now
                with _TICKING:
                    self._fanout.refresh_cursors()
            self._fanout.send_heartbeats(heartbeat)
            self._check_deadlines(now)

    def flush_metrics(self) -> None:
        """Let all processes see the metrics of this one up to now."""
        with _TICKING:
            counted = len(self._subscribers) - self._fanout.feeds.uncounted
            self._metrics.flush(counted, self._window.fill_ratio)

    def _check_deadlines(self, now: float) -> None:
        for some in TimeSlice().chunks(list(self._subscribers)):
            for subscriber in some:
                if subscriber.deadlines.next_check <= now:
                    with _TICKING:
                        subscriber.check_deadlines(now)

    def _expire_window(self) -> None:
        oldest = EventId(round((time() - self._settings.history_age) * 1000), 0)
        self._window.drop_before(min(oldest, self._fanout.dispatched_up_to.next(0)))
        for _ in cooperative(self._window.expire()):
            pass
