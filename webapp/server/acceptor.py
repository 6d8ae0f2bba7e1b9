"""Accepts connections, also when the process has as many files open as it may."""

from __future__ import annotations

import errno
import logging
import time
from typing import TYPE_CHECKING, Any

from gevent import GreenletExit
from gevent.server import StreamServer

from ..tasks import skip

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

_OUT_OF_FILES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_LOG_INTERVAL_S = 60  # between two lines about it


class FixedAddress:
    """A listening socket's address for its connections: it may be closed before they end."""

    def __init__(self, name: Any) -> None:
        self.getsockname = lambda: name


class AcceptLater(GreenletExit):
    """Makes gevent accept nothing for a moment, 10 ms at first, and report nothing."""


class Acceptor(StreamServer):
    """A listening socket of gevent's.

    :param is_full: whether to accept no more connections; `accept_again` must be called once there
        is room.
    :param free_files: called where a connection cannot be accepted because the process, or the
        system, has no files left; ends some connections that are waiting.
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
        is_full: Callable[[], bool],
        free_files: Callable[[], None],
        **options: Any,
    ) -> None:
        super().__init__(listener, handle, **options)
        vars(self)["full"] = is_full  # as gevent does where connections are served by a pool
        self._free_files = free_files
        self._logged_at = float("-inf")

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
                self._free_files()
            else:
                skip("accept", error)
            raise AcceptLater from None

    def _log(self, error: OSError) -> None:
        if time.monotonic() - self._logged_at > _LOG_INTERVAL_S:
            self._logged_at = time.monotonic()
            logger.error("The worker can accept no connections: %s", error.strerror)
