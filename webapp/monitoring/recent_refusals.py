"""The newest refused requests, of all workers of a machine."""

from __future__ import annotations

import os
from typing import NamedTuple

from .recent_entries import RecentEntries

_MAX_REFUSALS, _MAX_CHARS = 50, 300
_MAX_REFUSALS_PER_S = 3  # of a reason, that a worker notes: the first ones and the newest one


class RefusedRequest(NamedTuple):
    """A request, without its query."""

    time: float
    """Unix seconds."""
    reason: str
    status: int
    method: str
    path: str
    address: str
    subject: str
    """Of its token, if that is valid; empty: not known."""
    detail: str
    """Why it was refused."""
    remedy: str
    asked: tuple[str, ...]
    """The topics that were not granted; empty: the refusal is not about a grant."""
    granted: tuple[str, ...]


class RecentRefusals(RecentEntries[RefusedRequest]):
    """Keeps the newest refusals, and among them the newest of each reason.

    :param folder: of the metrics; None: there is none.
    """

    def __init__(self, folder: str | None) -> None:
        super().__init__(RefusedRequest, "refusals.json", lambda: folder, _MAX_REFUSALS, _MAX_CHARS)
        self._noted = dict[str, tuple[int, int]]()  # by reason: the last second, how many in it

    def add(self, it: RefusedRequest) -> None:
        """Note a refusal. Of many within a second, the newest one takes the place of the last."""
        second, number = self._noted.get(it.reason, (0, 0))
        number = min(number + 1, _MAX_REFUSALS_PER_S) if second == int(it.time) else 1
        self._noted[it.reason] = int(it.time), number
        self.note(f"{it.reason} {int(it.time)} {number} {os.getpid()}", it)

    def _to_keep(self, entries: dict[str, RefusedRequest]) -> set[str]:
        newest = set({it.reason: key for key, it in entries.items()}.values())
        return set(sorted(entries, key=newest.__contains__)[-_MAX_REFUSALS:])
