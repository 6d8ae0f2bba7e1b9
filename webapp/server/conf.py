"""How gunicorn serves the hub: its settings and its hooks, by gunicorn's names.

`gunicorn.conf.py` has them from here. Where gunicorn does not find that file, or is given another
one, the worker sets what that left out: safety must not depend on the folder of the start.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from ..config import exposure
from ..config.startup import load_settings, or_end, raise_file_limit, startup_message
from . import metrics_dir

if TYPE_CHECKING:
    from collections.abc import Callable

settings = load_settings(os.environ)

bind = settings.bind
workers = settings.web_concurrency
worker_class = "webapp.server.StreamWorker"
# A full pool would let /healthz hang; the hub refuses streams long before.
worker_connections = raise_file_limit()
# The arbiter kills what is left two seconds after the worker should have gone by itself.
graceful_timeout = int(settings.drain) + 2
# Longer than a platform's router keeps its connections to us (Heroku: 90 s), so that it is
# never we who close one it is about to use. Slow headers have a time-out of their own.
keepalive = 95
limit_request_line = 8190
# It imports the app, and with it ssl, before gevent patches it.
preload_app = False
# A worker that restarts by itself is an outage for its readers.
max_requests = 0
# On by default and noisy in read-only containers.
control_socket_disable = True
# No proxy says where the app is mounted; who sends SCRIPT_NAME would move it.
forwarder_headers = ""
# Static files are small, and go through the worker's timed writes.
sendfile = False
logger_class = "webapp.server.AccessLogger"
# Tokens may be in query strings: the path only.
access_log_format = '%(h)s "%(m)s %(U)s" %(s)s %(B)s %(L)ss'


_NOT_OURS = {"bind", "on_starting", "preload_app", "worker_class", "workers"}  # or it is too late


def complete(cfg: Any) -> None:
    """Set what a configuration other than this one left at gunicorn's defaults; where it has hooks
    of its own, both are called.
    """
    for name, value in globals().items():
        setting = cfg.settings.get(name)
        if setting is None or name in _NOT_OURS or setting.get() is value:
            continue
        if setting.get() == type(setting)().get():
            setting.set(value)
        elif callable(value) and setting.get() not in _chained:
            setting.value = _both(value, setting.get())


_chained = set[Any]()


def _both(ours: Callable[..., None], theirs: Callable[..., Any]) -> Callable[..., None]:
    def both(*arguments: Any) -> None:
        ours(*arguments)
        theirs(*arguments)

    _chained.add(both)
    return both


def on_starting(server: Any) -> None:
    """Refuse to start rather than lie, whatever the command line says."""
    begin(server.cfg)


def begin(cfg: Any) -> None:
    """Do what must be done once, before there is a worker."""
    or_end(exposure.check, settings, cfg.workers, [])
    try:
        metrics_dir.create()
    except OSError as error:
        sys.exit(f"Tidings does not start: There is no folder for its metrics: {error}.")


def when_ready(server: Any) -> None:
    """Check the sockets that there are now, and say where to look and what is open."""
    addresses = [it.getsockname() for it in server.LISTENERS] or server.cfg.address
    or_end(exposure.check, settings, server.cfg.workers, addresses)
    server.log.info(startup_message(settings, addresses, tls=server.cfg.is_ssl))
    if settings.port is not None and settings.broker_url.startswith("sqlite:"):
        server.log.warning(
            "The log is a file of this machine: a redeploy may erase it, and a second machine has"
            " another. For one that lasts, set TIDINGS_BROKER_URL to a Redis or Valkey."
        )


def pre_fork(server: Any, worker: Any) -> None:
    """Number the workers: who comes after one that is gone takes its place."""
    worker.number = metrics_dir.next_worker_id(it.number for it in server.WORKERS.values())


def child_exit(_server: Any, worker: Any) -> None:
    """Forget what a worker was doing; what it did stays counted."""
    metrics_dir.discard_worker(worker.number)


def on_exit(_server: Any) -> None:
    """Leave nothing behind."""
    metrics_dir.remove()


def post_fork(_server: Any, _worker: Any) -> None:
    """Let a worker that is stopped before it can say goodbye to anybody just stop."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def nworkers_changed(server: Any, new_value: int, _old_value: int | None) -> None:
    """Take back a SIGTTIN that would make a second log."""
    if new_value > 1 and settings.broker_url.startswith("memory:"):
        server.log.error("One worker only: with memory:// each would have a log of its own.")
        server.num_workers = 1
