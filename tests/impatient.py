"""A worker that does not wait long, for its log or for all of a body: `-k impatient.Worker`."""

from __future__ import annotations

from webapp import connection, server

server._PATIENCE = 1
connection._DRIPPING = 1


class Worker(server.StreamWorker):
    """As any other."""
