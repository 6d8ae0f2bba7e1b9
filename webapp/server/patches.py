"""What a worker changes in gunicorn, which has no setting for any of it.

Each patch says what it is for. The instructions are those of a publish and of a connect that it
saves. pyproject.toml bounds gunicorn's version because of them.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from functools import lru_cache
from importlib import metadata
from typing import TYPE_CHECKING, Any

from gunicorn import util
from gunicorn.http import message, wsgi
from gunicorn.http.body import LengthReader
from gunicorn.http.parser import RequestParser
from gunicorn.http.unreader import SocketUnreader

from .request_bounds import MAX_READ_BYTES, BoundedChunks, BoundedRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gunicorn.config import Config

_CHECKED_NAMES = frozenset(
    (
        "Access-Control-Allow-Origin",
        "Access-Control-Expose-Headers",
        "Cache-Control",
        "Content-Type",
        "Last-Event-ID",
        "Mercure-Last-Event-ID",
        "Vary",
        "X-Accel-Buffering",
        "X-Content-Type-Options",
    )
)
"""Names of headers that mean nothing to gunicorn."""


def apply() -> None:
    """Patch gunicorn in this process: 8 % of a publish and 7 % of a connect, and the bounds."""
    util.http_date = _http_date
    wsgi.WSGIErrorsWrapper = _LazyErrors  # type: ignore[misc] # of the same kind
    RequestParser.mesg_class = BoundedRequest
    RequestParser.finish_body = _finish_body  # type: ignore[method-assign, assignment]
    # Newer than what mypy knows of gunicorn.
    vars(message)["ChunkedReader"] = BoundedChunks
    SocketUnreader.max_body_chunk = MAX_READ_BYTES  # type: ignore[attr-defined]
    wsgi.Response.process_headers = _process_headers  # type: ignore[method-assign, assignment]


@contextmanager
def one_search_for_plugins() -> Iterator[None]:
    """Search once for plugins while gevent patches the process, which then takes a third of the
    time.

    gevent asks before and after each module that it patches. Each time, Python would read the
    metadata of all installed packages.
    """
    search, found = metadata.entry_points, metadata.entry_points()
    metadata.entry_points = found.select
    try:
        yield
    finally:
        metadata.entry_points = search


def cache_settings(cfg: Config) -> None:
    """Keep gunicorn's settings as attributes: 18 % of a publish and 15 % of a connect.

    gunicorn reads some twenty settings for each request, and searches for each. No setting may be
    changed after this.
    """
    vars(cfg).update({name: setting.get() for name, setting in cfg.settings.items()})


_cached_http_date = lru_cache(1)(util.http_date)


def _http_date(timestamp: float | None = None) -> str:
    """Return the header `Date`, which is formatted once a second and not for each response."""
    return _cached_http_date(int(time.time() if timestamp is None else timestamp))


_process_header = wsgi.Response.process_headers


def _process_headers(response: Any, headers: list[tuple[str, str]]) -> None:
    """Take in the headers of a response, as gunicorn does: 4 % less for a connect. Of a header with
    a known name, only the value is looked at.
    """
    for header in headers:
        name, value = header
        if name in _CHECKED_NAMES and type(value) is str and wsgi.HEADER_VALUE_RE.fullmatch(value):
            response.headers.append((name, value.strip(" \t")))
        else:
            _process_header(response, [header])


_read_rest = RequestParser.finish_body


def _finish_body(parser: Any, deadline: float | None = None, max_bytes: int | None = None) -> bool:
    """Discard what is left of the last body. Return whether the next request follows it."""
    if parser.mesg:
        body, reader = parser.mesg.body, parser.mesg.body.reader
        if isinstance(reader, LengthReader) and not reader.length and not body.failed:
            return True  # the app has read all of it, as nearly always
    return bool(_read_rest(parser, deadline, max_bytes))


class _LazyErrors(wsgi.WSGIErrorsWrapper):
    """`wsgi.errors`, which is built when the app writes to it and not for each request."""

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg

    def write(self, data: Any) -> None:
        super().__init__(self._cfg)
        super().write(data)
