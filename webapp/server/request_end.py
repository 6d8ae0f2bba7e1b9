"""What gunicorn does at the end of a request: it logs a line, and calls the hook `post_request`.

gunicorn does both when the greenlet of a request ends. For a stream, that is when it first parks.
So a `StreamDriver` does them for its stream. Until then it keeps only what they need.
"""

from __future__ import annotations

import re
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from gunicorn.glogging import Logger

from .loggers import AccessLogger
from .stream_response import StreamResponse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gunicorn.http.wsgi import Response
    from gunicorn.workers.base import Worker

_ATOM = re.compile(r"%\((?:\{(?P<name>.*?)\})?(?P<kind>\w)\)")
_ENVIRON_OF_EACH_LINE = (
    "REQUEST_METHOD",
    "RAW_URI",
    "PATH_INFO",
    "SERVER_PROTOCOL",
    "REMOTE_ADDR",
    "HTTP_REFERER",
    "HTTP_USER_AGENT",
)
"""What gunicorn reads of an environ for each line, whatever its format."""
_ENVIRON_OF_AN_ATOM = {"q": "QUERY_STRING", "u": "HTTP_AUTHORIZATION"}


class LoggedRequest(NamedTuple):
    """What the access log needs of gunicorn's request."""

    headers: list[tuple[str, str]]


class RequestEnds:
    """What a worker does at the end of each request, and what it needs for it.

    :param worker: whose configuration may name a hook and a format.
    """

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        log, cfg = worker.log, worker.cfg
        setting = cfg.settings["post_request"]
        self.hook: Callable[..., None] = setting.get()
        own_logger = type(log).access is Logger.access and type(log).atoms is AccessLogger.atoms
        self.needs_all = not own_logger or self.hook != type(setting)().get()
        self.needs_some = self.needs_all or log.access_log_enabled
        atoms = [it.groups("") for it in _ATOM.finditer(cfg.access_log_format)]
        self._atoms = {(name.lower(), kind) for name, kind in atoms}
        names = [it for name, kind in atoms if kind == "e" for it in (name.upper(), name.lower())]
        names += [_ENVIRON_OF_AN_ATOM.get(kind, "") for _, kind in atoms]
        self._environ = dict.fromkeys([*_ENVIRON_OF_EACH_LINE, *filter(None, names)])
        vars(cfg)["post_request"] = self._after_request

    def trim_environ(self, environ: dict[str, Any]) -> None:
        """Remove what nobody reads in an environ after the response has begun."""
        if not self.needs_all:
            kept = {name: environ[name] for name in self._environ if name in environ}
            environ.clear()
            environ.update(kept)

    def named(self, headers: Iterable[tuple[str, str]], kind: str) -> list[tuple[str, str]]:
        """Return the headers that the access log's format names.

        :param kind: `i` for a request's, `o` for a response's.
        """
        return [it for it in headers if (it[0].lower(), kind) in self._atoms]

    def _after_request(self, worker: Worker, request: Any, environ: Any, response: Any) -> None:
        if not isinstance(response, StreamResponse):
            self.hook(worker, request, environ, response)


class RequestEnd:
    """The end of the request of one stream.

    :param response: gunicorn's.
    """

    # There may be thousands.
    __slots__ = ("_began", "_ends", "_environ", "response")

    def __init__(self, ends: RequestEnds, response: Response, environ: dict[str, Any]) -> None:
        self.response = response
        self._ends, self._environ = ends, environ
        self._began = monotonic()

    def trim(self) -> bool:
        """Forget what is not needed once the stream has parked. Return whether anything is."""
        ends = self._ends
        response: Any = self.response
        if not ends.needs_some:
            self._environ.clear()
        elif not ends.needs_all:
            response.req = LoggedRequest(ends.named(response.req.headers, "i"))
            response.headers = ends.named(response.headers, "o")
        return ends.needs_some

    def log(self) -> None:
        """Write the line of the access log."""
        seconds = timedelta(seconds=monotonic() - self._began)
        self._ends.worker.log.access(self.response, self.response.req, self._environ, seconds)

    def call_hook(self) -> None:
        """Call the hook. It ends nothing if it fails."""
        worker = self._ends.worker
        try:
            self._ends.hook(worker, self.response.req, self._environ, self.response)
        except Exception:
            worker.log.exception("Exception in post_request hook")
