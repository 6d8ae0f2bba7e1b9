"""Short time-outs, for the event log and for a body: `-k support.short_timeouts.Worker`."""

from __future__ import annotations

from webapp.server import connection, worker

worker._LOG_WAIT_S = 1
connection._BODY_TIMEOUTS = 1


class Worker(worker.StreamWorker):
    """As any other."""
