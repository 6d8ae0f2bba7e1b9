"""The newest refused request for each reason, of all workers of a machine."""

from __future__ import annotations

from typing import NamedTuple

from .recent_entries import RecentEntries

_MAX_REASONS, _MAX_CHARS = 100, 300
_INTERVAL_S = 1.0  # between two examples of a reason that a worker notes


class RefusedRequest(NamedTuple):
    """A request, without its query."""

    time: float
    """Unix seconds."""
    status: int
    method: str
    path: str
    address: str
    detail: str
    """Why it was refused."""


class RecentRefusals(RecentEntries[RefusedRequest]):
    """Keeps an example for each reason.

    :param folder: of the metrics; None: there is none.
    """

    def __init__(self, folder: str | None) -> None:
        super().__init__(RefusedRequest, "refusals.json", lambda: folder, _MAX_REASONS, _MAX_CHARS)

    def wants(self, reason: str, now: float) -> bool:
        """Return whether a reason has no example of the last second."""
        found = self.newest_unshared(reason)
        return found is None or not 0 <= now - found.time < _INTERVAL_S
