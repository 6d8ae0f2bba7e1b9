"""A gevent worker of gunicorn that serves only where the hub may be served.

It does not rely on the hub's configuration: gunicorn finds `gunicorn.conf.py` only in the folder
that it is started from.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NoReturn, cast
from urllib.parse import quote

from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger
from gunicorn.workers.ggevent import GeventWorker

from ..config import exposure
from ..config.startup import Server
from ..errors import Misconfigured
from . import metrics_dir

if TYPE_CHECKING:
    from flask import Flask

    from ..errors import TidingsError


class AccessLogger(Logger):
    """gunicorn's log, with one line for one request whatever its path decodes to."""

    def atoms(self, resp: Any, req: Any, environ: Any, request_time: Any) -> Any:
        """Return what the access log's format may name."""
        atoms = super().atoms(resp, req, environ, request_time)
        return {**atoms, "U": quote(atoms["U"] or "", safe="/:@!$&'()*+,;=")}


class CheckedWorker(GeventWorker):
    """A worker that completes gunicorn's configuration, and checks the sockets that it has."""

    number: int | None = None
    """Which of the workers it is; `pre_fork` in conf.py says so."""

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Do in gunicorn's master what another configuration than the hub's left out."""
        from . import conf

        if type(log) is Logger:
            log.__class__ = AccessLogger
        if cfg.on_starting is not conf.on_starting:
            conf.begin(cfg)
        conf.complete(cfg)

    def __init__(self, *arguments: Any) -> None:
        from . import conf

        conf.complete(arguments[5])  # anew after each HUP
        super().__init__(*arguments)

    def load_wsgi(self) -> None:
        """Load the app; end the server where it must not be served."""
        self._share_numbers()
        Server.is_ours = True
        try:
            super().load_wsgi()
            settings = cast("Flask", self.wsgi).extensions["tidings"].settings
            addresses = [sock.getsockname() for sock in self.sockets]
            exposure.check(settings, self.cfg.workers, addresses)
        except Misconfigured as error:
            self.abort_start(error, Arbiter.WORKER_BOOT_ERROR)

    def _share_numbers(self) -> None:
        """Count where all workers see it, or alone."""
        try:
            metrics_dir.ensure()
        except OSError as error:
            self.log.warning("This worker's numbers are not shared: %s", error)
            metrics_dir.leave()
            return
        if self.number is not None:
            # Not before: the library looks for the directory when it is imported.
            from ..metrics import set_worker_id

            set_worker_id(self.number)

    def abort_start(self, error: TidingsError, status: int | None = None) -> NoReturn:
        """Say why it does not start, and end the process.

        :param status: None lets only the first workers take the server with them.
        """
        self.log.critical("Tidings does not start: %s", error)
        # The first workers take the server with them; one that was started again later must not
        # because of its log: the others still have their readers.
        first = self.age <= self.cfg.workers
        sys.exit(status or (Arbiter.WORKER_BOOT_ERROR if first else 1))
