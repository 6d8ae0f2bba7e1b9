"""The connection of a follower: it reads the event log, and waits for what follows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .database import Channel
from .notifications import Notifications
from .rows import parse_page, to_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...core.events import EventId
    from .database import Database
    from .rows import Page

_PAGE_BYTES = 256 << 10
_TICK_S = 1.0  # after so long without a notification it looks: one may have been lost
_READ = "SELECT * FROM tidings.read_after(%s, %s)"


class Listener:
    """Reads pages, and waits.

    :param on_notice: called when there is a new notice of presence.
    """

    def __init__(self, database: Database, on_notice: Callable[[], None]) -> None:
        self._on_notice = on_notice
        self._channel = Channel(database)
        names = "tidings", "tidings_notices"
        self._notifications = Notifications(database, self._channel, *names)
        self._notice = -1

    def read(self, after: EventId, *, wait: bool) -> Page:
        """Return the next page after a position.

        :param wait: until there may be something new.
        :raises ServiceUnavailable: the server does not answer.
        """
        if not self._notifications.prepare() and wait:
            self._notifications.wait("tidings", _TICK_S)
        page = parse_page(self._channel.call(_READ, (to_key(after), _PAGE_BYTES)))
        if page.notice != self._notice:
            self._notice = page.notice
            self._on_notice()
        return page

    def wake(self) -> None:
        """End the waiting."""
        self._notifications.wake()

    def close(self) -> None:
        """Close the connection."""
        self._notifications.stop()
        self._channel.close()
