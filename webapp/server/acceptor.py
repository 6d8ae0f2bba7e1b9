"""A socket that accepts connections, also when the process has as many files open as it may."""

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

_NO_MORE = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_QUIET = 60  # seconds between two lines about it


class Address:
    """A listener's address for those it accepted: it may be closed before they are served."""

    def __init__(self, name: Any) -> None:
        self.getsockname = lambda: name


class Pause(GreenletExit):
    """Accept nobody for a moment: gevent then waits, 10 ms at first, and reports nothing."""


class Acceptor(StreamServer):
    """Accepts; where there are no files left, others make room.

    :param make_room: lets some connections go that are only waiting.
    """

    make_room: Callable[[], None]
    _told = float("-inf")

    def do_read(self) -> Any:
        """Accept one connection, or none.

        :raises Pause: there is no room for it; it is accepted a little later.
        """
        try:
            return super().do_read()
        except OSError as error:
            if error.errno in self.fatal_errors:
                raise
            if error.errno not in _NO_MORE:
                skip("accept", error)
                raise Pause from None
            if time.monotonic() - self._told > _QUIET:
                self._told = time.monotonic()
                logger.error("no connection can be accepted: %s", error.strerror)  # noqa: TRY400
            self.make_room()
            raise Pause from None
