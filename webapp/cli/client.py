"""Requests to a hub over one connection, and what its responses mean."""

from __future__ import annotations

import http.client
import json
import re
import ssl
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlencode, urlsplit

from ..core.json_members import to_object
from .proxy import https_proxy
from .retry import PermanentFailure, TemporaryFailure, TopicsEnded

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from http.client import HTTPResponse
    from socket import socket
    from urllib.parse import SplitResult

    from .remote_hub import RemoteHub

    Query = list[tuple[str, str]]

_CONNECT_TIMEOUT_S = 10.0
_CHUNK_BYTES = 64 << 10
_MAX_BODY_BYTES = 1 << 20  # of a response that is not a stream
_PROXY_REFUSAL = re.compile(r"Tunnel connection failed: (4\d\d.*)", re.DOTALL)
_REDIRECTS = range(300, 400)
_TEMPORARY = {408, 425, 429}  # statuses of requests that were not processed
_SERVER_ERROR = 500  # and all above are temporary too


class HubClient:
    """A client of a hub. It connects at its first request, and keeps the connection.

    Each method raises `TemporaryFailure` where another try may help: the hub does not answer, is
    silent for too long, or says so. `PermanentFailure` is raised where it would not. A connection
    that failed is closed, and the next request opens another.

    :param timeout_s: seconds without a byte after which a connection counts as dead.
    :param protocols: those to offer in TLS (ALPN).
    """

    def __init__(
        self, hub: RemoteHub, timeout_s: float, protocols: tuple[str, ...] = ("http/1.1",)
    ) -> None:
        self.hub = hub
        self._timeout_s = timeout_s
        self._connection = _connection(hub.url, list(protocols))
        self._socket: socket | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def connected(self) -> bool:
        """Whether it has a connection, which the hub may have closed meanwhile."""
        return self._connection.sock is not None

    def connect(self) -> socket:
        """Connect, and return the socket. HTTPS_PROXY and NO_PROXY count."""
        with self._failures(connecting=True):
            self._connection.connect()
        self._socket = sock = self._connection.sock
        sock.settimeout(self._timeout_s)
        return sock

    def allow_silence(self, timeout_s: float) -> None:
        """Change the seconds without a byte, for the connection that there is too."""
        self._timeout_s = timeout_s
        if self._socket is not None:
            self._socket.settimeout(timeout_s)

    def close(self) -> None:
        """Close the connection, if there is one."""
        self._connection.close()

    def request(
        self,
        method: str,
        path: str | None = None,
        *,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str | bytes] | None = None,
    ) -> HTTPResponse:
        """Send a request with the token, and return the response once its head is there.

        :param path: None: the path of the events.
        :param body: parts are sent one after the other, as chunks.
        """
        if not self.connected:
            self.connect()
        all_headers = {"User-Agent": "tidings", **(headers or {})}
        if self.hub.token:
            all_headers["Authorization"] = f"Bearer {self.hub.token}"
        with self._failures():
            self._connection.request(method, path or self.hub.url.path, body, all_headers)
            return self._connection.getresponse()

    def read(self, response: HTTPResponse) -> bytes:
        """Return the body of a response with the status 200; another status is a failure."""
        with self._failures():
            body = response.read(_MAX_BODY_BYTES)
        if response.status != HTTPStatus.OK:
            raise self._refusal(response, body)
        return body

    def publish(self, fields: Mapping[str, Any], accept: str = "text/plain") -> str:
        """Publish an event as a form, which any Mercure hub takes.

        :returns: the body of the response; with `text/plain` it is the event's id.
        """
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": accept}
        body = urlencode(fields, doseq=True).encode()
        response = self.request("POST", body=body, headers=headers)
        return self.read(response).decode("utf-8", "replace").strip()

    def subscribe(
        self, query: Query, cursor: str | None = None, accept_encoding: str = "identity"
    ) -> HTTPResponse:
        """Open a stream with control events, and return the response, which `chunks` reads.

        :param cursor: the id of the last event that was seen.
        :raises TopicsEnded: nothing is left to send.
        """
        headers: dict[str, str | bytes] = {"Accept": "text/event-stream"}
        headers |= {"Accept-Encoding": accept_encoding, "Cache-Control": "no-cache"}
        if cursor:
            headers["Last-Event-ID"] = cursor.encode()
        path = f"{self.hub.url.path}?{urlencode([*query, ('control', '1')])}"
        response = self.request("GET", path, headers=headers)
        if response.status == HTTPStatus.NO_CONTENT:
            raise TopicsEnded
        if response.status != HTTPStatus.OK:
            self.read(response)
        media_type = response.headers.get_content_type()
        if media_type != "text/event-stream":
            media_type = self.hub.redact(media_type)
            message = f"{self.hub.origin} answers 200 {media_type}, no event stream."
            raise PermanentFailure(message)
        return response

    def chunks(self, response: HTTPResponse) -> Iterator[bytes]:
        """Yield the body of a response as it arrives, until it ends."""
        while True:
            with self._failures():
                chunk = response.read1(_CHUNK_BYTES)
            if not chunk:
                return
            yield chunk

    @contextmanager
    def _failures(self, *, connecting: bool = False) -> Iterator[None]:
        """Close the connection when it fails, and raise what the error means."""
        try:
            yield
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise self._failure(error, connecting=connecting) from error

    def _failure(
        self, error: Exception, *, connecting: bool
    ) -> PermanentFailure | TemporaryFailure:
        origin = self.hub.origin
        if isinstance(error, ssl.SSLCertVerificationError):
            why = f"{origin}: its certificate is not accepted: {error.verify_message}."
            return PermanentFailure(f"{why} SSL_CERT_FILE can name an authority of your own.")
        if isinstance(error, ssl.SSLError) and connecting:
            return PermanentFailure(f"{origin} does not speak TLS ({error.reason}); is it http://?")
        if isinstance(error, TimeoutError):
            silent = f": no byte for {self._timeout_s:g} s"
            why = " does not answer" if connecting else silent
        elif isinstance(error, http.client.RemoteDisconnected | http.client.IncompleteRead):
            why = " has closed the connection"
        elif isinstance(error, http.client.BadStatusLine):
            return PermanentFailure(f"{origin} does not speak HTTP; is it https://?")
        elif refused := _PROXY_REFUSAL.fullmatch(str(error)):
            message = f"The proxy of HTTPS_PROXY answers {self.hub.redact(refused[1])}."
            return PermanentFailure(f"{message} Its URL can be http://USER:PASSWORD@HOST:PORT.")
        else:
            text = getattr(error, "strerror", None) or self.hub.redact(str(error))
            why = f": {text or type(error).__name__}"
        return TemporaryFailure(origin + why, unprocessed=connecting)

    def _refusal(self, response: HTTPResponse, body: bytes) -> PermanentFailure | TemporaryFailure:
        status, redact = response.status, self.hub.redact
        document = json_object(body) or {}
        problem = document if "detail" in document else {}
        text = redact(f"{problem.get('detail', '')} {problem.get('remedy', '')}".strip())
        message = f"{self.hub.origin} answers {status}: {text or redact(response.reason) + '.'}"
        if status >= _SERVER_ERROR or status in _TEMPORARY:
            wait, published = response.headers.get("Retry-After", ""), problem.get("published", 0)
            return TemporaryFailure(
                message.removesuffix("."),  # what is printed continues
                wait_s=float(wait) if re.fullmatch(r"[0-9]{1,4}", wait) else 0,
                unprocessed=status in _TEMPORARY,
                published=max(0, published) if isinstance(published, int) else 0,
            )
        if status in _REDIRECTS:
            message += f" It is at {redact(_without_query(response.headers['Location']))} now."
        elif not problem:
            message += " Is there a hub?"
        elif status == HTTPStatus.UNAUTHORIZED:
            message += " For this command that is --token or TIDINGS_TOKEN."
        return PermanentFailure(message, status, problem)


def _without_query(location: str | None) -> str:
    """Return the target of a redirect without what may be secret."""
    try:
        target = urlsplit(location or "")
    except ValueError:
        return "an invalid URL"
    return target._replace(query="", fragment="").geturl()


def json_object(text: str | bytes) -> dict[str, Any] | None:
    """Return a JSON object, or None if a foreign text is not one."""
    try:
        value = json.loads(text, object_pairs_hook=to_object)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _connection(url: SplitResult, protocols: list[str]) -> http.client.HTTPConnection:
    """Return a connection that is not connected yet."""
    host, port = url.hostname or "", url.port
    if url.scheme == "http":
        return http.client.HTTPConnection(host, port, timeout=_CONNECT_TIMEOUT_S)
    context = ssl.create_default_context()
    context.set_alpn_protocols(protocols)
    options: dict[str, Any] = {"timeout": _CONNECT_TIMEOUT_S, "context": context}
    proxy = https_proxy(host)
    if proxy is None:
        return http.client.HTTPSConnection(host, port, **options)
    connection = http.client.HTTPSConnection(proxy.host, proxy.port, **options)
    connection.set_tunnel(host, port, proxy.headers)
    return connection
