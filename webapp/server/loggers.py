"""The loggers of a worker: gunicorn's, and the hub's own, which writes as gunicorn does."""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import quote

from gunicorn.glogging import Logger

from ..config import folders


class AccessLogger(Logger):
    """gunicorn's loggers, with one access log line for a request whatever its path decodes to."""

    def atoms(self, resp: Any, req: Any, environ: Any, request_time: Any) -> Any:
        """Return the values that the access log's format may name."""
        atoms = super().atoms(resp, req, environ, request_time)
        return {**atoms, "U": quote(atoms["U"] or "", safe="/:@!$&'()*+,;=")}


def log_as_gunicorn(error_log: logging.Logger) -> None:
    """Write the hub's log lines where gunicorn writes its own, in the same form."""
    ours = logging.getLogger(folders.NAME)
    ours.handlers = error_log.handlers
    ours.setLevel(error_log.level)
    # No format of ours shows a thread. gevent makes one, of 490 bytes, for each greenlet that logs
    # a line.
    logging.logThreads = logging.logMultiprocessing = False
