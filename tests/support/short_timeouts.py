"""Short time-outs, for the event log and for a body: `-k support.short_timeouts.Worker`."""

from __future__ import annotations

from webapp.server import phase, worker

worker._LOG_WAIT_S = 1
phase._BODY_TIMEOUT_FACTOR = 1


class Worker(worker.StreamWorker):
    """As any other."""
