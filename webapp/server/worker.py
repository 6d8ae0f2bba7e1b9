"""The hub's gunicorn worker: it follows the event log, serves subscribers, and drains.

gunicorn's own gevent worker does not tell the application that it stops, and then waits in vain
for the streams to end. This one ends each stream with `hub.bye`, so that its client reconnects.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import gevent
from gevent.event import Event as Signal
from gunicorn import sock as gunicorn_sock
from gunicorn import util
from gunicorn.arbiter import Arbiter
from gunicorn.http import errors as http_errors
from gunicorn.workers.ggevent import GeventWorker

from ..config import exposure
from ..config.file_limit import file_limit
from ..config.server_check import Server
from ..errors import Misconfigured, ServiceUnavailable
from ..hub.served_hubs import ServedHubs
from . import loggers, metrics_dir, patches, start_report
from .acceptor import Acceptor, FixedAddress
from .garbage_collection import GarbageCollection
from .greenlet_pool import GreenletPool
from .middleware import ConnectionMiddleware, below
from .open_connections import OpenConnections
from .parse_errors import error_response, log_parse_error
from .request_end import RequestEnds
from .stream_counts import StreamCounts
from .stream_driver import ResumeQueue, StreamDriver

if TYPE_CHECKING:
    from ..config.settings import Settings
    from ..errors import TidingsError
    from ..hub.hub import Hub
    from .connection import ClientConnection

_LOG_WAIT_S = 10  # in which a starting worker must reach its event log
_LOG_RETRY_S = 1
_TICK_S = 1.0
_ABORT_S = 1  # for connections to end after they were aborted
_DRAIN_POLL_S = 0.02
_NO_TIMEOUT = nullcontext()


class StreamWorker(GeventWorker):
    """A gevent worker that ends its streams before it stops."""

    hub: Hub
    settings: Settings
    number: int | None = None
    """Its number among the workers, for its metrics; `pre_fork` in conf.py sets it."""

    # The start

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Do in gunicorn's master what a configuration other than the hub's left out."""
        from . import conf

        loggers.prepare(log)
        if cfg.on_starting is not conf.on_starting:
            conf.begin(cfg)
        conf.complete(cfg)

    def __init__(self, *arguments: Any) -> None:
        from . import conf

        conf.complete(arguments[5])  # a HUP loads the configuration again
        super().__init__(*arguments)

    def patch(self) -> None:
        """Patch the standard library, gevent and gunicorn."""
        with patches.one_search_for_plugins():
            super().patch()
        gevent.config.track_greenlet_tree = False  # who spawned whom: memory for each connection
        patches.apply()

    def load_wsgi(self) -> None:
        """Load the app, find its hubs, and let them follow the event log. End the server where the
        app must not be served.
        """
        app = self._load_app()
        self.hub = self.hubs.main
        self.settings = self.hub.settings
        if (limit := min(self.worker_connections, file_limit())) < file_limit():
            self.hubs.cap_streams(limit * 8 // 10)  # streams leave room for other requests
        counts = StreamCounts(self.number)
        self.connections = OpenConnections(
            self.settings, limit, self.cfg.keepalive, counts, self.hub.metrics.refused
        )
        loggers.log_as_gunicorn(self.log.error_log)
        self.cfg.set("limit_request_field_size", self.settings.max_header_bytes)
        self.cfg.set("http_parser", "python")  # the one that `BoundedRequest` bounds
        patches.cache_settings(self.cfg)
        prefix = os.environ.pop("SCRIPT_NAME", "").strip("/")  # gunicorn would refuse other paths
        served = below(app, f"/{prefix}") if prefix else app
        self._greenlets = GreenletPool()
        queue, direct = ResumeQueue(self._resume, self._greenlets), not self.cfg.is_ssl
        ends = RequestEnds(self)
        self.wsgi = ConnectionMiddleware(served, queue, ends, direct=direct)  # type: ignore[assignment] # environ is a dict (PEP 3333)
        self._start_hub()
        if self.age == 1 and self.alive:  # a SIGTERM may have come first
            tls = self.cfg.is_ssl
            start_report.log_greeting(self.log, self.settings, self._addresses(), tls=tls)
        start_report.check_clock(self.log, self.hub.window.head)
        self.garbage = GarbageCollection()
        self.garbage.begin()

    def _load_app(self) -> Any:
        metrics_dir.share(self.number, self.log)
        Server.is_stream_worker = True
        try:
            super().load_wsgi()
            self.hubs = ServedHubs(self.wsgi)
            for hub in self.hubs:
                exposure.check(hub.settings, self.cfg.workers, self._addresses())
        except Misconfigured as error:
            self._abort_start(error, Arbiter.WORKER_BOOT_ERROR)
        return self.wsgi

    def _abort_start(self, error: TidingsError, status: int | None = None) -> NoReturn:
        """Log why the worker does not start, and end its process.

        :param status: the exit status. None: one of the first workers ends the server, and one
            that replaces another does not, because the other workers still have subscribers.
        """
        is_first = self.age <= self.cfg.workers
        if is_first:
            start_report.await_refusal_turn()
        self.log.critical("Tidings does not start: %s", error)
        sys.exit(status or (Arbiter.WORKER_BOOT_ERROR if is_first else 1))

    def _addresses(self) -> list[Any]:
        return [sock.getsockname() for sock in self.sockets]

    def _start_hub(self) -> None:
        """Let the hub follow its event log; end the process where there is none."""
        until = time.monotonic() + _LOG_WAIT_S
        while self.alive:
            self.notify()
            try:
                self.hubs.start()
                break
            except Misconfigured as error:
                self._abort_start(error)
            except ServiceUnavailable as error:
                if time.monotonic() > until:
                    self._abort_start(error)
                self.log.warning("The worker waits for the event log: %s", error)
                gevent.sleep(_LOG_RETRY_S)

    def init_signals(self) -> None:
        """Prepare to be woken from `run`."""
        self._stopping = Signal()
        super().init_signals()

    # Serving

    def run(self) -> None:
        """Serve until a signal says to stop, then drain."""
        acceptors = [self._acceptor(listener) for listener in self.sockets]
        self.connections.counts.join()
        for acceptor in acceptors:
            acceptor.start()
        while self.alive:
            self.notify()
            self._stopping.wait(_TICK_S)
            self.garbage.tick(len(self.connections))
            self.alive = self.alive and not self.hubs.failed
        self._drain(acceptors)

    def _acceptor(self, listener: Any) -> Acceptor:
        listener.setblocking(1)
        options: dict[str, Any] = {"spawn": self._greenlets.spawn}
        if self.cfg.is_ssl:
            options["ssl_context"] = gunicorn_sock.ssl_context(self.cfg)
        handle = partial(self.handle, FixedAddress(listener.getsockname()))
        connections = self.connections
        acceptor = Acceptor(listener, handle, connections, **options)
        connections.acceptors.append(acceptor)
        return acceptor

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """Serve a new connection."""
        connection = self.connections.add(client)
        connection.listener = listener
        self._serve(connection, addr)

    def _serve(self, connection: Any, addr: Any) -> None:
        """Serve a connection until it is closed, or its stream parks."""
        try:
            super().handle(connection.listener, connection, addr)
        finally:
            if not connection.parked:
                self.connections.discard(connection)

    def is_already_handled(self, respiter: Any) -> bool:
        """Send a stream until it parks or ends; gunicorn sends all other responses.

        :raises StopIteration: gunicorn has nothing more to do with the connection.
        """
        if not isinstance(respiter, StreamDriver):
            return False
        self.connections.counts.count(respiter.connection, is_stream=True)
        ended = respiter.run()
        if ended and respiter.reusable:
            return True
        respiter.connection.parked = not ended
        raise StopIteration

    def _resume(self, driver: StreamDriver) -> None:
        """Go on with a stream that was parked, and then with its connection."""
        connection: Any = driver.connection
        client_address, connection.parked = None, False
        try:
            connection.parked = not driver.run()
            follows = self.alive or connection.pipelined  # else a stop would look for thousands
            if driver.reusable and follows and not connection.parked:
                client_address = connection.peer_address
        except OSError as error:
            self.log.debug("A stream's client disconnected: %s", error)
        except Exception:
            self.log.exception("A stream ended by an error.")
        finally:
            if not connection.parked and client_address is None:
                util.close(connection)
                self.connections.discard(connection)
        if client_address is not None:
            self._await_request(connection)
            self._serve(connection, client_address)

    def timeout_ctx(self) -> Any:
        """Return a context without a time-out: a `ClientConnection` has its own."""
        return _NO_TIMEOUT

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> bool:
        """Serve one request of a `ClientConnection`."""
        sock.begin_body(req)
        req.version = min(req.version, (1, 1))  # the response's too: gunicorn repeats any HTTP/1.x
        try:
            return super().handle_request(listener_name, req, sock, addr)
        finally:
            if not sock.parked:
                self._await_request(sock)

    def _await_request(self, connection: ClientConnection) -> None:
        connection.begin_request()
        if connection.is_counted:
            self.connections.counts.count(connection, is_stream=False)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answer what gunicorn refuses itself with a problem document, as the app does."""
        if not isinstance(exc, http_errors.ParseException):
            super().handle_error(req, client, addr, exc)
            return
        log_parse_error(exc)
        self.hub.metrics.refused.add(1, "not_http")
        try:
            client.send_last(error_response(exc, self.settings.max_header_bytes))
        except OSError:
            self.log.debug("The client disconnected before it was answered.")

    # The end

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Stop on SIGTERM; a second one changes nothing."""
        super().handle_exit(sig, frame)
        self._stopping.set()

    def handle_quit(self, sig: int, frame: Any) -> None:
        """Stop in the same way on SIGINT and SIGQUIT: Fly.io sends SIGINT."""
        self.handle_exit(sig, frame)

    def _drain(self, acceptors: list[Acceptor]) -> None:
        until = time.monotonic() + self.settings.drain
        for acceptor in acceptors:
            acceptor.close()
        self.hubs.drain()
        self.connections.stop_reading()
        self._await_connections(until)
        self.connections.abort()
        self._await_connections(time.monotonic() + _ABORT_S)
        self.hubs.stop()

    def _await_connections(self, until: float) -> None:
        while self.connections:
            self.notify()
            gevent.sleep(_DRAIN_POLL_S)  # at least once, even if the machine stood still meanwhile
            if time.monotonic() > until:
                return
