"""A worker that does not wait long, for its log or for all of a body: `-k impatient.Worker`."""

from __future__ import annotations

from webapp.server import connection, worker

worker._PATIENCE = 1
connection._DRIPPING = 1


class Worker(worker.StreamWorker):
    """As any other."""
