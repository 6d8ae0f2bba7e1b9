"""Accepts connections, also when the process has as many files open as it may."""

from __future__ import annotations

import errno
import logging
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any, Protocol

from gevent import GreenletExit
from gevent.server import StreamServer

from ..tasks import skip

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

_OUT_OF_FILES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_STEP_BACK_S = 0.0025  # in which other workers can accept a connection first
_MOST_STEPS_BACK = 8  # one after another, while the worker with the fewest accepts connections
_LOG_INTERVAL_S = 60  # between two lines about it


class FixedAddress:
    """A listening socket's address for its connections: it may be closed before they end."""

    def __init__(self, name: Any) -> None:
        self.getsockname = lambda: name


class AcceptLater(GreenletExit):
    """Makes gevent accept nothing for a moment, 10 ms at first, and report nothing."""


class Counts(Protocol):
    """How many connections each worker has."""

    def is_ahead(self) -> bool:
        """Whether other workers should accept first, because they have fewer."""

    def least(self) -> int:
        """Return the count of the worker that has the fewest."""


class Connections(Protocol):
    """The connections of a worker, as far as they decide whether it accepts more."""

    @property
    def counts(self) -> Counts:
        """Its count, and those of the other workers."""

    def is_full(self) -> bool:
        """Whether no more can be accepted."""

    def free_files(self) -> None:
        """End connections that wait: the process, or the system, has no files left."""


class Acceptor(StreamServer):
    """A listening socket of gevent's.

    :param connections: the worker's. `accept_again` must be called once there is room.
    :param options: gevent's.
    """

    # In one turn of the event loop. More would be served together, before any event is delivered,
    # while fewer would have the loop look for I/O as often. A busy worker leaves the next ones to
    # the other workers.
    max_accept = 4

    def __init__(
        self,
        listener: Any,
        handle: Callable[..., None],
        connections: Connections,
        **options: Any,
    ) -> None:
        super().__init__(listener, handle, **options)
        self._connections = connections
        self._step_back_timer = self.loop.timer(_STEP_BACK_S)
        self._turn_of_return = -2  # of the event loop
        self._steps_back = self._least = 0
        self._logged_at = float("-inf")

    def full(self) -> bool:
        """Whether to accept no connection now; gevent asks before each one."""
        if self._connections.is_full():
            return True
        counts = self._connections.counts
        if not counts.is_ahead() or self._has_stepped_back(counts.least()):
            self._turn_of_return, self._steps_back = -2, 0
            return False
        self._steps_back += 1
        self._least = counts.least()
        self._step_back_timer.close()  # libev would start it with the time that it has left: none
        self._step_back_timer = self.loop.timer(_STEP_BACK_S)
        self._step_back_timer.start(self._return)
        return True

    def _has_stepped_back(self, least: int) -> bool:
        """Whether to accept a connection that is still there after a step back. Not soon if the
        worker with the fewest accepts others meanwhile: it is about to accept this one.
        """
        if self.loop.iteration > self._turn_of_return + 1:
            self._steps_back = 0
            return False
        return least <= self._least or self._steps_back == _MOST_STEPS_BACK

    def _return(self) -> None:
        self._turn_of_return = self.loop.iteration
        self.accept_again()

    def close(self) -> None:
        """Accept nothing any more."""
        self._step_back_timer.close()
        super().close()

    def accept_again(self) -> None:
        """Accept connections; nothing changes where they are accepted already."""
        if self.started:
            self.start_accepting()

    def wrap_socket_and_handle(self, client_socket: Any, address: Any) -> None:
        """Serve a connection with TLS. The handshake takes place when its first request is read: so
        it has the time-out of a header, and the connection counts meanwhile.
        """
        wrap: Any = vars(self)["wrap_socket"]  # the context's: mypy takes it for a method
        options: Any = self.ssl_args
        try:
            connection = wrap(client_socket, **options, do_handshake_on_connect=False)
        except OSError:
            client_socket.close()  # the client has disconnected
            return
        with closing(connection):
            self.handle(connection, address)

    def do_close(self, *_: Any) -> None:
        """Leave the connection open when its greenlet ends: it may be parked."""

    def do_read(self) -> Any:
        """Accept a connection.

        :raises AcceptLater: there are no files left, or it failed otherwise.
        """
        try:
            return super().do_read()
        except OSError as error:
            if error.errno in self.fatal_errors:
                raise
            if error.errno in _OUT_OF_FILES:
                self._log(error)
                self._connections.free_files()
            else:
                skip("accept", error)
            raise AcceptLater from None

    def _log(self, error: OSError) -> None:
        if time.monotonic() - self._logged_at > _LOG_INTERVAL_S:
            self._logged_at = time.monotonic()
            logger.error("The worker can accept no connections: %s", error.strerror)
