"""What gunicorn does anew for each request, done once.

gunicorn has no setting for any of it: it makes requests, environs and the heads of answers itself,
of what it finds by these names.
"""

from __future__ import annotations

import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from gunicorn import util
from gunicorn.http import message, wsgi
from gunicorn.http.parser import RequestParser
from gunicorn.http.unreader import SocketUnreader

from .request_bounds import MAX_PIECE, BoundedChunks, BoundedRequest

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


class StreamResponse(wsgi.Response):
    """The answer that is a stream: whether its connection goes on is nobody's concern."""

    def default_headers(self) -> list[str]:
        """Return the head's first lines, without `ClientConnection`."""
        lines: list[str] = super().default_headers()
        return [line for line in lines if not line.startswith("Connection:")]


def install() -> None:
    """Let gunicorn use these."""
    util.http_date = _http_date
    wsgi.WSGIErrorsWrapper = _Errors  # type: ignore[misc] # of the same kind
    RequestParser.mesg_class = BoundedRequest
    # Newer than what mypy knows of gunicorn.
    vars(message)["ChunkedReader"] = BoundedChunks
    SocketUnreader.max_body_chunk = MAX_PIECE  # type: ignore[attr-defined]
