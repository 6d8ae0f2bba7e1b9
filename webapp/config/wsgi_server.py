"""Which server serves an app that has a hub in it, and how many requests at the same time."""

from __future__ import annotations

import sys
import threading
from math import ceil
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import Misconfigured
from .folders import NAME
from .server_check import is_gunicorn

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_FEW_STREAMS = 100
_UNKNOWN_REQUESTS = 10  # at the same time, of a server that does not say
_WORKER = f"-k {NAME}.server.StreamWorker"
_GUNICORN_WORKERS = {
    "gunicorn.workers.ggevent": "gevent",
    "gunicorn.workers.gthread": "gthread",
    "gunicorn.workers.sync": "sync",
}
"""Modules of which gunicorn imports one, and the first counts: others import `sync`, too."""

_UWSGI_OPTIONS = {"threads": 1, "gevent": 0}


class WsgiServer(NamedTuple):
    """A server, as far as a hub needs to know it."""

    name: str
    requests: int | None
    """How many it serves at the same time in a process; None: any number."""
    more: str
    """What to do to serve more."""
    workers: int = 1
    uses_gevent: bool = False
    patches: bool = False
    """Whether gevent patches the process by what the server does."""
    worker: Any = None
    """gunicorn's, whose `alive` says whether it goes on; None: it is another server, or gunicorn
    has not made it yet.
    """

    @property
    def streams(self) -> int | None:
        """How many streams may be open at the same time: a fifth of the requests is for others.
        None: any number.
        """
        return None if self.requests is None else self.requests - max(1, ceil(self.requests / 5))

    def check(self, *, patched: bool) -> None:
        """Refuse what cannot serve streams.

        :param patched: whether gevent has patched this process.
        :raises Misconfigured: with what to do.
        """
        if self.uses_gevent:
            if not (patched or self.patches):
                detail = f"{self.name} serves this app in greenlets, and gevent has not patched it."
                remedy = "Begin the app with `from gevent import monkey; monkey.patch_all()`."
                raise Misconfigured(detail, remedy)
            return
        self.check_requests()
        if patched:
            detail = f"{self.name} serves this app, which gevent has patched, without gevent."
            remedy = f"Start gunicorn with {_WORKER}, or leave out monkey.patch_all()."
            raise Misconfigured(detail, remedy)

    def check_requests(self) -> None:
        """Refuse a server that serves one request at a time.

        :raises Misconfigured: with what to do.
        """
        if self.streams == 0:
            detail = f"{self.name} serves one request at a time: a stream would hold up all others."
            raise Misconfigured(detail, f"{self.more[0].upper()}{self.more[1:]}.")

    def notice(self) -> str | None:
        """Return what to log about the streams that it can hold; None: they are many."""
        if self.streams is None or self.streams >= _FEW_STREAMS:
            return None
        return (
            f"{self.name} serves {self.requests} requests at the same time in each process, so"
            f" {self.streams} of them can be streams. For more, {self.more}."
        )


def loading() -> WsgiServer | None:
    """Return the server that loads the app; None: it is not known, or there is none."""
    if is_gunicorn():
        return _gunicorn()
    return _uwsgi() if "uwsgi" in sys.modules else None


def serving(environ: WSGIEnvironment, *, patched: bool) -> WsgiServer | None:
    """Return the server of a request; None: there is none, such as in a test, or it does not
    matter.

    :param patched: whether gevent has patched this process.
    """
    if found := loading():
        return found
    if threads := sum(it.name.startswith("waitress-") for it in threading.enumerate()):
        return WsgiServer("Waitress", threads, "start it with --threads=100")
    if patched or "SERVER_SOFTWARE" not in environ:
        return None
    if not environ["wsgi.multithread"]:
        return WsgiServer("The server", 1, "start it with threads")
    if "werkzeug.socket" in environ:
        return WsgiServer("Werkzeug", None, "")
    more = f"use gunicorn with {_WORKER}"
    return WsgiServer("The server, as far as can be known,", _UNKNOWN_REQUESTS, more)


def _gunicorn() -> WsgiServer:
    kind = next((it for name, it in _GUNICORN_WORKERS.items() if name in sys.modules), "?")
    owner = _caller()
    cfg, name = getattr(owner, "cfg", None), f"gunicorn's {kind} worker"
    workers = getattr(cfg, "workers", 1)
    worker = owner if hasattr(owner, "alive") else None
    if kind == "gevent":
        requests = getattr(cfg, "worker_connections", None)
        more = "start gunicorn with --worker-connections 1000"
        server = WsgiServer(name, requests, more, workers, uses_gevent=True, patches=True)
    elif kind == "sync":
        server = WsgiServer(name, 1, f"start gunicorn with {_WORKER}", workers)
    else:
        requests = getattr(cfg, "threads", _UNKNOWN_REQUESTS)
        more = f"start gunicorn with --threads 100, or with {_WORKER}"
        server = WsgiServer(name, requests, more, workers)
    return server._replace(worker=worker)


def _caller() -> Any:
    """Return gunicorn's worker, or else its application, which has called this: it shows neither to
    apps.
    """
    found, frame = None, sys._getframe().f_back  # noqa: SLF001 - see above
    while frame:
        if frame.f_globals.get("__name__", "").startswith("gunicorn."):
            owner = frame.f_locals.get("self")
            found = owner if hasattr(owner, "cfg") else found
            if hasattr(owner, "alive"):
                return owner
        frame = frame.f_back
    return found


def _uwsgi() -> WsgiServer:
    uwsgi: Any = sys.modules["uwsgi"]
    more = "start uWSGI with --threads 100, or with --gevent 1000 and monkey.patch_all() in the app"
    threads, cores = (int(uwsgi.opt.get(name, default)) for name, default in _UWSGI_OPTIONS.items())
    if not cores:
        return WsgiServer("uWSGI", threads, more, uwsgi.numproc)
    patches = any("monkey-patch" in name for name in uwsgi.opt)
    return WsgiServer("uWSGI", cores, more, uwsgi.numproc, uses_gevent=True, patches=patches)
