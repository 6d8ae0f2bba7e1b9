"""The loggers of a worker: gunicorn's, and the hub's own, which writes as gunicorn does."""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import quote

from gunicorn.glogging import Logger

from ..config import folders
from ..monitoring.server_warnings import server_warnings


class AccessLogger(Logger):
    """gunicorn's loggers, with one access log line for a request whatever its path decodes to."""

    def setup(self, cfg: Any) -> None:
        """Open the logs that the settings name."""
        super().setup(cfg)
        for handler in self.error_log.handlers:
            if type(handler) is logging.StreamHandler:
                handler.__class__ = LineHandler
                handler.setFormatter(LineFormatter(self.error_fmt, self.datefmt))

    def atoms(self, resp: Any, req: Any, environ: Any, request_time: Any) -> Any:
        """Return the values that the access log's format may name."""
        atoms = super().atoms(resp, req, environ, request_time)
        return {**atoms, "U": quote(atoms["U"] or "", safe="/:@!$&'()*+,;=")}


class LineHandler(logging.StreamHandler):  # type: ignore[type-arg] # at run time it has none
    """Writes a line to standard error for 5 % of a connect less: there is one for each stream.

    Python's own handler takes a lock three times. It needs none: the stream takes a line as a
    whole, and lets no other greenlet run meanwhile.
    """

    def handle(self, record: logging.LogRecord) -> bool:
        """Write a record, unless a filter leaves it out. Return whether it was written."""
        if self.filters and not self.filter(record):
            return False
        try:
            self.stream.write(f"{self.format(record)}\n")
        except Exception:  # noqa: BLE001 - as every handler does
            self.handleError(record)
        return True


class LineFormatter(logging.Formatter):
    """Formats a record as gunicorn does, and its time once a second."""

    _second, _time = -1, ""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record, or its lines with a traceback."""
        if record.exc_info or record.stack_info:
            return super().format(record)
        start = f"{self.formatTime(record, self.datefmt)} [{record.process}] [{record.levelname}]"
        return f"{start} {record.getMessage()}"

    def formatTime(  # noqa: N802 - the name that `logging` calls
        self, record: logging.LogRecord, datefmt: str | None = None
    ) -> str:
        """Return the time of a record."""
        second = int(record.created)
        if second != self._second:
            self._second, self._time = second, super().formatTime(record, datefmt)
        return self._time


def prepare(log: Any) -> None:
    """Let gunicorn's master and all workers note warnings, and write lines as the hub's do."""
    if type(log) is Logger:
        log.__class__ = AccessLogger
    log.error_log.addHandler(server_warnings)


def log_as_gunicorn(error_log: logging.Logger) -> None:
    """Write the hub's log lines where gunicorn writes its own, in the same form."""
    ours = logging.getLogger(folders.NAME)
    ours.handlers = error_log.handlers
    ours.setLevel(error_log.level)
    # No format of ours shows a thread. gevent makes one, of 490 bytes, for each greenlet that logs
    # a line.
    logging.logThreads = logging.logMultiprocessing = False
