"""What lies between gunicorn and the app: checks of the request, its body, and its connection."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from gunicorn.http import errors as http_errors

from .request_body import RequestBody
from .request_end import RequestEnd
from .stream_driver import StreamDriver
from .stream_response import StreamResponse

if TYPE_CHECKING:
    from .connection import ClientConnection
    from .request_end import RequestEnds
    from .stream_driver import ResumeQueue

Environ = dict[str, Any]
WSGIApp = Callable[[Environ, Any], Iterable[bytes]]


class ConnectionMiddleware:
    """Calls the app with the request's `ClientConnection` and a `RequestBody` in the environ.

    :param queue: continues parked streams.
    :param request_ends: says what is kept of a stream's environ.
    :param direct: whether the app may write to the connection itself. Below TLS it may not: there
        a hang-up looks like any other record.
    """

    def __init__(
        self, app: WSGIApp, queue: ResumeQueue, request_ends: RequestEnds, *, direct: bool
    ) -> None:
        self._app = app
        self._queue = queue
        self._request_ends = request_ends
        self._direct = direct

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """Serve a request. Return the body of its response, or the driver of a stream.

        :raises ParseException: its framing, or its Host, is not what HTTP requires.
        """
        coding = environ.get("HTTP_TRANSFER_ENCODING", "chunked")
        if coding.lower() != "chunked":  # gunicorn reads others too, but not as every proxy does
            raise http_errors.UnsupportedTransferCoding(coding)
        if "HTTP_HOST" not in environ and environ["SERVER_PROTOCOL"] == "HTTP/1.1":
            host = "HOST"  # which HTTP/1.1 requires (RFC 9112, section 3.2)
            raise http_errors.InvalidHeader(host)
        connection = environ["gunicorn.socket"]
        if self._direct:
            environ["tidings.connection"] = connection
        length = environ.get("CONTENT_LENGTH")
        environ["wsgi.input"] = RequestBody(environ["wsgi.input"], connection, length)
        begin = partial(self._begin_response, connection, environ, start_response)
        body: Any = self._app(environ, begin)
        if not connection.is_stream:
            return body  # type: ignore[no-any-return] # an iterable of bytes (PEP 3333)
        # A stream may last for hours. This saves 1,570 bytes a subscriber.
        self._request_ends.trim_environ(environ)
        end = RequestEnd(self._request_ends, start_response.__self__, environ)
        driver = StreamDriver(connection, body, end, self._queue)
        if self._direct:
            connection.wakeup = driver
        return driver  # type: ignore[return-value] # the worker iterates it

    def _begin_response(
        self,
        connection: ClientConnection,
        environ: Environ,
        start_response: Any,
        status: str,
        headers: list[tuple[str, str]],
        *exc: Any,
    ) -> Any:
        in_app = environ.get("tidings.stream")  # None: an app may have streams of its own
        is_stream = in_app is not None and not (in_app and _is_encoded(headers))
        connection.begin_response(is_stream=is_stream)
        if is_stream:
            start_response.__self__.__class__ = StreamResponse
        return start_response(status, headers, *exc)


def _is_encoded(headers: list[tuple[str, str]]) -> bool:
    """Return whether code of an app changes the bytes of a stream."""
    return any(name.lower() == "content-encoding" for name, _ in headers)


def below(app: WSGIApp, prefix: str) -> WSGIApp:
    """Return an app that answers below a path, too, because a proxy passes that path on. Health
    checks do not come through the proxy, so it answers without the path as before.

    :param prefix: the path, such as `/hub`.
    """

    def app_below(environ: Environ, start_response: Any) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == prefix:  # the URLs in a page are relative to `/hub/`
            location = f"{prefix}/?{environ['QUERY_STRING']}".removesuffix("?")
            start_response("308 Permanent Redirect", [("Location", location)])
            return [b""]
        if path.startswith(f"{prefix}/"):
            environ["SCRIPT_NAME"], environ["PATH_INFO"] = prefix, path[len(prefix) :]
        return app(environ, start_response)

    return app_below
