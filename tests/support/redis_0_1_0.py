"""Publishes to Redis as hubs of 0.1.0 do: with their scripts, which know no index by topic."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from support.redis_log import IDS, LOG, QUEUE

if TYPE_CHECKING:
    from support.redis_server import RedisServer
    from webapp.core.events import Draft

_FOLDER = Path(__file__).parent / "redis_scripts"
BUILDS = {"0.1.0-without-totals.lua": 3, "0.1.0.lua": 4}
"""The script of each build of 0.1.0, and where its drafts begin. The first one wrote no totals."""


class OldHub:
    """A hub of 0.1.0, as far as the server sees it."""

    def __init__(self, server: RedisServer, build: str, max_events: int = 100_000) -> None:
        self._server = server
        self._script = (_FOLDER / build).read_text()
        limits = str(max_events), "604800000", str(1 << 30)
        self._limits = limits[: BUILDS[build] - 1]

    def append(self, drafts: list[Draft]) -> list[str] | None:
        """Publish; return the positions, or None for a conflict."""
        parts = [part for it in drafts for part in (it.id or "", it.to_json())]
        keys = 3, LOG, IDS, QUEUE
        answer = self._server.ask("EVAL", self._script, *keys, "append", *self._limits, *parts)
        positions: list[str] | None = answer
        return positions

    def read(self) -> None:
        """Look at the head; that trims."""
        call = "read", *self._limits, "XRANGE", "0-1", "+", 1, 1
        self._server.ask("EVAL", self._script, 3, LOG, IDS, QUEUE, *call)
