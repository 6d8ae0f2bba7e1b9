"""How gunicorn serves the hub: its settings and its hooks, by gunicorn's names.

`gunicorn.conf.py` imports them from here. Where gunicorn does not find that file, or is given
another one, the worker sets what is missing: safety must not depend on the current folder.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from ..config.file_limit import raise_file_limit
from ..config.settings import Settings
from ..config.startup import or_end
from . import listen_addresses, metrics_dir, stream_counts, temporary_folder

if TYPE_CHECKING:
    from collections.abc import Callable

settings = or_end(Settings.from_env, os.environ)

bind = listen_addresses.choose(settings)
workers = settings.web_concurrency
worker_class = f"{__package__}.StreamWorker"
# With a full pool /healthz would hang. The hub refuses streams long before.
worker_connections = raise_file_limit()
# gunicorn's master kills a worker two seconds after its drain should have ended.
graceful_timeout = int(settings.drain) + 2
# Longer than a platform's router keeps its connections to the hub (Heroku: 90 s). Otherwise the hub
# might close one that the router is about to use. A slow header has a time-out of its own.
keepalive = 95
limit_request_line = 8190
# Preloading imports the app, and with it ssl, before gevent patches it.
preload_app = False
# A worker that restarts by itself is an outage for its subscribers.
max_requests = 0
# On by default, and logs errors in read-only containers.
control_socket_disable = True
# A client that sends SCRIPT_NAME would move the app; no proxy needs to send it.
forwarder_headers = ""
# gunicorn believes each client of this machine. The app believes TIDINGS_TRUSTED_PROXIES.
secure_scheme_headers: dict[str, str] = {}
# Static files are small, and are sent within the worker's write time-out.
sendfile = False
logger_class = f"{__package__}.AccessLogger"
# The path only: tokens may be in query strings.
access_log_format = '%(h)s "%(m)s %(U)s" %(s)s %(B)s %(L)ss'


_NOT_COMPLETED = {"bind", "on_starting", "preload_app", "worker_class", "workers"}
"""Settings that the worker cannot or must not change."""


def complete(cfg: Any) -> None:
    """Set what a configuration other than this one left at gunicorn's defaults. Where it has hooks
    of its own, both are called.
    """
    for name, value in globals().items():
        setting = cfg.settings.get(name)
        if setting is None or name in _NOT_COMPLETED or setting.get() is value:
            continue
        if setting.get() == type(setting)().get():
            setting.set(value)
        elif callable(value) and setting.get() not in _combined_hooks:
            setting.value = _combined(value, setting.get())


_combined_hooks = set[Any]()


def _combined(ours: Callable[..., None], theirs: Callable[..., Any]) -> Callable[..., None]:
    def both(*arguments: Any) -> None:
        ours(*arguments)
        theirs(*arguments)

    _combined_hooks.add(both)
    return both


def on_starting(server: Any) -> None:
    """Refuse to start rather than lie, whatever the command line says."""
    begin(server.cfg)
    if not listen_addresses.are_inherited():
        or_end(listen_addresses.await_free, server.cfg, settings, server.log)


def begin(cfg: Any) -> None:
    """Do in the master what must be done once, before there is a worker. Only a worker knows the
    app, and so whether strangers may reach it.
    """
    or_end(settings.check_workers, cfg.workers)
    or_end(temporary_folder.choose, settings)
    try:
        metrics_dir.create()
    except OSError as error:
        sys.exit(f"Tidings does not start: There is no folder for its metrics: {error}.")


def pre_fork(server: Any, worker: Any) -> None:
    """Give a worker the lowest free number: that of the worker that it replaces."""
    worker.number = metrics_dir.next_worker_id(it.number for it in server.WORKERS.values())
    stream_counts.add_worker(worker.number)


def child_exit(_server: Any, worker: Any) -> None:
    """Remove the gauges and the stream count of a worker that ended; its counters stay."""
    metrics_dir.discard_worker(worker.number, worker.pid)
    stream_counts.discard_worker(worker.number)


def on_exit(_server: Any) -> None:
    """Remove the metrics."""
    metrics_dir.remove()


def post_fork(_server: Any, _worker: Any) -> None:
    """Let SIGTERM end a worker that has no subscribers yet."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def nworkers_changed(server: Any, new_value: int, _old_value: int | None) -> None:
    """Undo a SIGTTIN that would make a second event log in memory."""
    if new_value > 1 and settings.broker_url.startswith("memory:"):
        server.log.error(
            "There can be only one worker: with memory:// each would have its own event log."
        )
        server.num_workers = 1
