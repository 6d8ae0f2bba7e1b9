"""The hubs that a worker serves: one, or those of several apps that are served together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakKeyDictionary

from ..errors import Misconfigured
from ..scheduling import sleep

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .hub import Hub

_LOOK_S = 0.25  # between two looks whether a worker stops


def drain_at_stop(worker: Any, hubs: Iterable[Hub]) -> None:
    """End all streams when a worker of gunicorn stops, which says so to nobody and waits for them.

    :param worker: of any class; the hub's own ends streams by itself.
    """
    while worker.alive:
        sleep(_LOOK_S)
    for hub in hubs:
        hub.drain()


class ServedHubs:
    """All hubs of the process. The app may be hidden by a middleware, such as Werkzeug's ProxyFix
    or DispatcherMiddleware.

    :param app: what the worker serves.
    :raises Misconfigured: there is no hub.
    """

    built: ClassVar[WeakKeyDictionary[Hub, None]] = WeakKeyDictionary()
    """The hubs that this process has built, the oldest first."""

    def __init__(self, app: Any) -> None:
        own = getattr(app, "extensions", {}).get("tidings")
        self._hubs: list[Hub] = list(self.built)
        if not self._hubs:
            detail = "gunicorn's worker class is the hub's, and the app has no hub."
            raise Misconfigured(detail, "Add one to the app: Tidings(app).")
        self.main = own.hub if own else self._hubs[0]
        """The hub whose settings hold for the worker."""

    def __iter__(self) -> Iterator[Hub]:
        return iter(self._hubs)

    def cap_streams(self, count: int) -> None:
        """Limit the streams of all hubs together; each may have the same part."""
        for hub in self._hubs:
            hub.quota.cap(count // len(self._hubs))

    def start(self) -> None:
        """Let each hub follow its event log. It may be called again.

        :raises ServiceUnavailable: an event log is not available.
        """
        for hub in self._hubs:
            hub.start()

    @property
    def failed(self) -> bool:
        """Whether one of them is broken."""
        return any(hub.failed for hub in self._hubs)

    def drain(self) -> None:
        """Refuse new streams, and end those that are open."""
        for hub in self._hubs:
            hub.drain()

    def stop(self) -> None:
        """Stop following the event logs, and close them."""
        for hub in self._hubs:
            hub.stop()
