"""A worker that does not wait long for its log: `gunicorn -k impatient.Worker`."""

from __future__ import annotations

from webapp import server

server._PATIENCE = 1


class Worker(server.StreamWorker):
    """As any other."""
