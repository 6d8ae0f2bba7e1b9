"""Limits how many threads of a server streams and pipes take, so that other requests find one."""

from __future__ import annotations

from contextlib import contextmanager
from threading import Condition
from typing import TYPE_CHECKING

from ..errors import ServiceUnavailable
from .quotas import PipeQuota

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..config.wsgi_server import WsgiServer


class RequestRoom:
    """Counts the requests of a process that last, and refuses one too many.

    :param server: None: it has room for any number.
    """

    def __init__(self, server: WsgiServer | None) -> None:
        self._server = server
        self._size = server.streams if server else None
        self._taken = 0
        self._changed = Condition()

    def __len__(self) -> int:
        return self._taken

    def take(self) -> None:
        """Count a request that lasts; `leave` must follow.

        :raises Misconfigured: the server has room for one request in all.
        :raises ServiceUnavailable: it would be one too many.
        """
        if self._server:
            self._server.check_requests()
        with self._changed:
            if self._size is not None and self._taken >= self._size:
                detail = "All requests that this server may spend on streams and pipes are taken."
                remedy = "Try again later, or give the server more threads."
                raise ServiceUnavailable(detail, remedy, reason="full")
            self._taken += 1

    def leave(self) -> None:
        """Stop counting a request."""
        with self._changed:
            self._taken -= 1
            self._changed.notify_all()

    def wait_until_empty(self, seconds: float) -> None:
        """Wait until all requests have left, or until some seconds have passed."""
        with self._changed:
            self._changed.wait_for(lambda: not self._taken, seconds)


class PipesInRoom(PipeQuota):
    """Limits how many pipes are open; each takes a request of the room."""

    def __init__(self, limit: int, limit_each: int, room: RequestRoom) -> None:
        super().__init__(limit, limit_each)
        self._room = room

    @contextmanager
    def share(self, publisher: str, amount: int = 0) -> Iterator[Callable[[int], None]]:
        """Count a pipe until the end of the block; see `PublisherQuota.share`."""
        self._room.take()
        try:
            with super().share(publisher, amount) as hold:
                yield hold
        finally:
            self._room.leave()
