"""A gevent worker of gunicorn that serves only where the hub may be served.

It does not rely on the hub's `gunicorn.conf.py`, because gunicorn finds that file only in the
folder that it is started from.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NoReturn, cast
from urllib.parse import quote

from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger
from gunicorn.workers.ggevent import GeventWorker

from ..config import exposure
from ..config.server_check import Server
from ..errors import Misconfigured
from . import metrics_dir

if TYPE_CHECKING:
    from flask import Flask

    from ..errors import TidingsError


class AccessLogger(Logger):
    """gunicorn's loggers, with one access log line for a request whatever its path decodes to."""

    def atoms(self, resp: Any, req: Any, environ: Any, request_time: Any) -> Any:
        """Return the values that the access log's format may name."""
        atoms = super().atoms(resp, req, environ, request_time)
        return {**atoms, "U": quote(atoms["U"] or "", safe="/:@!$&'()*+,;=")}


class CheckedWorker(GeventWorker):
    """A worker that completes gunicorn's configuration, and checks the sockets that it has."""

    number: int | None = None
    """Its number among the workers, for its metrics; `pre_fork` in conf.py sets it."""

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Do in gunicorn's master what a configuration other than the hub's left out."""
        from . import conf

        if type(log) is Logger:
            log.__class__ = AccessLogger
        if cfg.on_starting is not conf.on_starting:
            conf.begin(cfg)
        conf.complete(cfg)

    def __init__(self, *arguments: Any) -> None:
        from . import conf

        conf.complete(arguments[5])  # a HUP loads the configuration again
        super().__init__(*arguments)

    def load_wsgi(self) -> None:
        """Load the app; end the server where it must not be served."""
        self._share_metrics()
        Server.is_stream_worker = True
        try:
            super().load_wsgi()
            settings = cast("Flask", self.wsgi).extensions["tidings"].settings
            addresses = [sock.getsockname() for sock in self.sockets]
            exposure.check(settings, self.cfg.workers, addresses)
        except Misconfigured as error:
            self.abort_start(error, Arbiter.WORKER_BOOT_ERROR)

    def _share_metrics(self) -> None:
        """Write metrics where all workers read them; if that fails, to this process's memory."""
        try:
            metrics_dir.ensure()
        except OSError as error:
            self.log.warning("This worker's metrics are not shared: %s", error)
            metrics_dir.leave()
            return
        if self.number is not None:
            # Not before: the library looks for the directory when it is imported.
            from ..metrics import set_worker_id

            set_worker_id(self.number)

    def abort_start(self, error: TidingsError, status: int | None = None) -> NoReturn:
        """Log why the worker does not start, and end its process.

        :param status: the exit status. None: one of the first workers ends the server, and one
            that replaces another does not, because the other workers still have subscribers.
        """
        self.log.critical("Tidings does not start: %s", error)
        is_first = self.age <= self.cfg.workers
        sys.exit(status or (Arbiter.WORKER_BOOT_ERROR if is_first else 1))
