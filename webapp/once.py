"""What gunicorn does anew for each request, done once.

gunicorn has no setting for any of it: it makes requests, environs and the heads of answers itself,
of what it finds by these names.
"""

from __future__ import annotations

import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from gunicorn import util
from gunicorn.http import wsgi
from gunicorn.http.message import Request
from gunicorn.http.parser import RequestParser

if TYPE_CHECKING:
    from gunicorn.config import Config

_written = lru_cache(1)(util.http_date)


def _http_date(timestamp: float | None = None) -> str:
    """Return what gunicorn's own does, written once a second."""
    return _written(int(time.time() if timestamp is None else timestamp))


class _Errors(wsgi.WSGIErrorsWrapper):
    """Where an app's errors go, which is looked for when there is one."""

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg

    def write(self, data: Any) -> None:
        super().__init__(self._cfg)
        super().write(data)


class _Request(Request):
    """A request of a connection that knows whether its peer is a proxy to be trusted."""

    def _peer_is_trusted_proxy(self) -> bool:
        unreader: Any = self.unreader
        if unreader.sock.trusted is None:
            unreader.sock.trusted = super()._peer_is_trusted_proxy()  # type: ignore[misc] # untyped
        trusted: bool = unreader.sock.trusted
        return trusted


def install() -> None:
    """Let gunicorn use these."""
    util.http_date = _http_date
    wsgi.WSGIErrorsWrapper = _Errors  # type: ignore[misc] # of the same kind
    RequestParser.mesg_class = _Request
