"""The gunicorn side: a worker that awaits its log, hands the hub its connections, and drains.

gunicorn's own gevent worker tells the application nothing of a stop and waits in vain for its
streams to end. This one says goodbye first.
"""

from __future__ import annotations

import gc
import logging
import time
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

import gevent
from gevent.event import Event as Signal
from gevent.pool import Pool
from gunicorn import sock as gunicorn_sock
from gunicorn.http import errors as http_errors

from ..config.startup import file_limit
from ..core import sse
from ..errors import Misconfigured, ServiceUnavailable
from ..hub.stream_log import Lines
from . import patches
from .acceptor import Acceptor, Address
from .checked_worker import CheckedWorker
from .connection import ClientConnection
from .parse_errors import refusal
from .request_body import RequestBody

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask

    from ..config.settings import Settings
    from ..hub.hub import Hub

gevent.config.track_greenlet_tree = False  # who spawned whom: memory for each connection

patches.install()

_STREAM = ("Content-Type", sse.CONTENT_TYPE)
_KEPT = (
    "wsgi.file_wrapper",
    "REQUEST_METHOD",
    "RAW_URI",
    "PATH_INFO",
    "SERVER_PROTOCOL",
    "REMOTE_ADDR",
    "HTTP_REFERER",
    "HTTP_USER_AGENT",
)
_COLLECT_EVERY = 60  # seconds
_PATIENCE = 10  # seconds that a starting worker waits for its log
_FULL = 90  # percent of the files it may open: connections before the idle ones must go
_AT_ONCE = 64  # of them, where the system has no more files
_FEW = 500  # connections with which a full collection takes a few milliseconds


class StreamWorker(CheckedWorker):
    """A gevent worker that says goodbye to its readers before it stops."""

    hub: Hub
    settings: Settings

    def load_wsgi(self) -> None:
        """Load the app, find its hub and let it follow the log."""
        super().load_wsgi()
        app = cast("Flask", self.wsgi)
        self.hub = app.extensions["tidings"]
        self.settings = self.hub.settings
        self.connections: set[ClientConnection] = set()
        self.waiters: dict[ClientConnection, None] = {}
        self.pipes: dict[ClientConnection, None] = {}
        self._most = min(self.worker_connections, file_limit()) * _FULL // 100
        self._share_log()
        self.cfg.set("limit_request_field_size", self.settings.max_header_bytes)
        # gunicorn asks for some twenty settings a request, each of which is a search.
        vars(self.cfg).update({name: found.get() for name, found in self.cfg.settings.items()})
        self.wsgi = self._with_connection(app)  # type: ignore[assignment] # environ is a dict (PEP 3333)
        self._await_log()
        gc.collect()
        gc.freeze()  # what is there from the start stays
        gc.set_threshold(5_000, 5, 1 << 30)  # young objects as ever, old ones by _collect
        self._collect_in = _COLLECT_EVERY

    def _share_log(self) -> None:
        """Let the hub's log lines go where gunicorn's go, in the same form."""
        ours, theirs = logging.getLogger("webapp"), self.log.error_log
        for handler in theirs.handlers:
            handler.setFormatter(Lines(handler.formatter))
        ours.handlers = theirs.handlers
        ours.setLevel(theirs.level)
        # No format of ours shows them, and each line would pay for them.
        logging.logThreads = logging.logMultiprocessing = False

    def _with_connection(self, app: Flask) -> Callable[[dict[str, Any], Any], Any]:
        """Return the app as gunicorn calls it, with its `ClientConnection` in the environ."""

        def with_connection(environ: dict[str, Any], start_response: Any) -> Any:
            coding = environ.get("HTTP_TRANSFER_ENCODING", "chunked")
            if coding.lower() != "chunked":  # gunicorn reads more, but not as every proxy does
                raise http_errors.UnsupportedTransferCoding(coding)
            if "HTTP_HOST" not in environ and environ["SERVER_PROTOCOL"] == "HTTP/1.1":
                host = "HOST"  # must be there (RFC 9112, section 3.2)
                raise http_errors.InvalidHeader(host)
            connection = environ["gunicorn.socket"]
            if not self.cfg.is_ssl:  # below TLS, a hang-up looks like any other record
                environ["tidings.connection"] = connection
            length = environ.get("CONTENT_LENGTH")
            environ["wsgi.input"] = RequestBody(environ["wsgi.input"], connection, length)

            def settle_and_start(status: str, headers: list[tuple[str, str]], *exc: Any) -> Any:
                connection.begin_response()
                if _STREAM in headers:
                    _let_go(environ)
                    start_response.__self__.__class__ = patches.StreamResponse
                return start_response(status, headers, *exc)

            return app(environ, settle_and_start)

        return with_connection

    def _await_log(self) -> None:
        """Let the hub follow its log; end the process where there is none."""
        until = time.monotonic() + _PATIENCE
        while self.alive:
            self.notify()
            try:
                self.hub.start()
                break
            except Misconfigured as error:
                self.give_up(error)
            except ServiceUnavailable as error:
                if time.monotonic() > until:
                    self.give_up(error)
                self.log.warning("Waiting for the log: %s", error)
                gevent.sleep(1)

    def init_signals(self) -> None:
        """Prepare to be woken from `run`."""
        self._stopping = Signal()
        super().init_signals()

    def run(self) -> None:
        """Serve until told to stop, then drain."""
        servers = [self._server(listener) for listener in self.sockets]
        for server in servers:
            server.start()
        while self.alive:
            self.notify()
            self._stopping.wait(1.0)
            self._collect()
            self.alive = self.alive and not self.hub.failed
        self._drain(servers)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Stop on SIGTERM; a second one changes nothing."""
        super().handle_exit(sig, frame)
        self._stopping.set()

    def handle_quit(self, sig: int, frame: Any) -> None:
        """Stop on SIGINT and SIGQUIT with the same goodbye: Fly.io sends SIGINT."""
        self.handle_exit(sig, frame)

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """Serve one connection."""
        connection: Any = ClientConnection(client, self.settings, self.waiters, self.pipes)
        self.connections.add(connection)
        if len(self.connections) > self._most:
            self._make_room(1)
        try:
            super().handle(listener, connection, addr)
        finally:
            self.connections.discard(connection)
            if connection.timeout_reason:
                self.hub.metrics.refused(connection.timeout_reason)

    def _make_room(self, count: int) -> None:
        """Hang up on those that have waited longest for their clients to say something."""
        silent = list(islice(self.waiters, count))
        for connection in silent:
            del self.waiters[connection]
            self.hub.metrics.refused("connections")
            connection.abort()
        for connection in list(islice(self.pipes, count - len(silent))):
            del self.pipes[connection]
            connection.evict()

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> bool:
        """Serve one request of a `ClientConnection`."""
        sock.begin_body(req)
        req.version = min(req.version, (1, 1))  # the answer's, too: gunicorn repeats any HTTP/1.x
        try:
            return super().handle_request(listener_name, req, sock, addr)
        finally:
            sock.begin_request()

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answer what gunicorn refuses itself like every other refusal."""
        if not isinstance(exc, http_errors.ParseException):
            super().handle_error(req, client, addr, exc)
            return
        self.log.info("Refused what is not a request to us: %s", type(exc).__name__)
        self.hub.metrics.refused("not_http")
        try:
            client.send_last(refusal(exc, self.settings.max_header_bytes))
        except OSError:
            self.log.debug("The client did not wait for its refusal.")

    def _collect(self) -> None:
        """Look for cyclic garbage in old objects, while that is quick.

        With thousands of readers it would stop all of them for a third of a second, and find
        nothing: readers leave no cycles behind.
        """
        self._collect_in -= 1
        if self._collect_in <= 0 and len(self.connections) < _FEW:
            self._collect_in = _COLLECT_EVERY
            gc.collect()

    def _server(self, listener: Any) -> Acceptor:
        listener.setblocking(1)
        options: dict[str, Any] = {"spawn": Pool(self.worker_connections)}
        if self.cfg.is_ssl:
            options["ssl_context"] = gunicorn_sock.ssl_context(self.cfg)
        address = Address(listener.getsockname())
        server = Acceptor(listener, partial(self.handle, address), **options)
        server.make_room = partial(self._make_room, _AT_ONCE)
        if self.cfg.workers > 1:
            server.max_accept = 1  # one that is busy leaves the next connection to the others
        return server

    def _drain(self, servers: list[Acceptor]) -> None:
        until = time.monotonic() + self.settings.drain
        for server in servers:
            server.close()
        self.hub.drain()
        for connection in list(self.connections):
            connection.stop_reading()
        self._await_connections(until)
        for connection in list(self.connections):
            connection.abort()
        self._await_connections(time.monotonic() + 1)
        self.hub.stop()

    def _await_connections(self, until: float) -> None:
        while self.connections:
            self.notify()
            gevent.sleep(0.02)  # once at least, even if the machine has stood still since
            if time.monotonic() > until:
                return


def _let_go(environ: dict[str, Any]) -> None:
    """Keep only what gunicorn and its access log will ask for: a stream may last for hours."""
    kept = {name: environ[name] for name in _KEPT if name in environ}
    environ.clear()
    environ.update(kept)
