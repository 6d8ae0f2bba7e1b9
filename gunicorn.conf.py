"""How gunicorn serves the hub; it reads this file by itself, and again at every HUP."""

import os
import signal

from webapp import shared
from webapp.startup import check_place, greeting, load_settings, raise_file_limit

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
logger_class = "webapp.server.Log"
# Tokens may be in query strings: the path only.
access_log_format = '%(h)s "%(m)s %(U)s" %(s)s %(B)s %(L)ss'


def on_starting(server):
    """Refuse to start rather than lie, whatever the command line says."""
    check_place(settings, server.cfg.workers, server.cfg.address)
    shared.begin()


def when_ready(server):
    """Say where to look and what is open."""
    address = server.LISTENERS[0].getsockname()
    scheme = "https" if server.cfg.is_ssl else "http"
    if isinstance(address, tuple):
        address = f"{scheme}://{address[0]}:{address[1]}"
    server.log.info(greeting(settings, address))
    if settings.port is not None and settings.broker_url.startswith("sqlite:"):
        server.log.warning(
            "The log is a file of this machine: a redeploy may erase it, and a second machine has"
            " another. For one that lasts, set TIDINGS_BROKER_URL to a Redis or Valkey."
        )


def pre_fork(server, worker):
    """Number the workers: who comes after one that is gone takes its place."""
    worker.number = shared.free_number(it.number for it in server.WORKERS.values())


def child_exit(_server, worker):
    """Forget what a worker was doing; what it did stays counted."""
    shared.forget(worker.number)


def on_exit(_server):
    """Leave nothing behind."""
    shared.end()


def post_fork(_server, _worker):
    """Let a worker that is stopped before it can say goodbye to anybody just stop."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def nworkers_changed(server, new_value, _old_value):
    """Take back a SIGTTIN that would make a second log."""
    if new_value > 1 and settings.broker_url.startswith("memory:"):
        server.log.error("One worker only: with memory:// each would have a log of its own.")
        server.num_workers = 1
