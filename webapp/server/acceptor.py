"""Accepts connections, also when the process has as many files open as it may."""

from __future__ import annotations

import errno
import logging
import time
from typing import TYPE_CHECKING, Any, Protocol

from gevent import GreenletExit
from gevent.server import StreamServer

from ..tasks import skip

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

_OUT_OF_FILES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_STEP_BACK_S = 0.0025  # in which other workers can accept a connection first
_LOG_INTERVAL_S = 60  # between two lines about it


class FixedAddress:
    """A listening socket's address for its connections: it may be closed before they end."""

    def __init__(self, name: Any) -> None:
        self.getsockname = lambda: name


class AcceptLater(GreenletExit):
    """Makes gevent accept nothing for a moment, 10 ms at first, and report nothing."""


class Connections(Protocol):
    """The connections of a worker, as far as they decide whether it accepts more."""

    def is_full(self) -> bool:
        """Whether no more can be accepted."""

    def is_ahead(self) -> bool:
        """Whether other workers should accept first, because they have fewer."""

    def free_files(self) -> None:
        """End some that are waiting: the process, or the system, has no files left."""


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
        self._logged_at = float("-inf")

    def full(self) -> bool:
        """Whether to accept no connection now; gevent asks before each one."""
        if self._connections.is_full():
            return True
        # The turn after a step back accepts a connection that is still there.
        if self.loop.iteration <= self._turn_of_return + 1 or not self._connections.is_ahead():
            self._turn_of_return = -2
            return False
        self._step_back_timer.close()  # libev would start it with the time that it has left: none
        self._step_back_timer = self.loop.timer(_STEP_BACK_S)
        self._step_back_timer.start(self._return)
        return True

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
