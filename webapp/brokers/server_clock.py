"""The clock of the server, which gives events their positions."""

from __future__ import annotations

from .base import now


class ServerClock:
    """Knows by how much it differs from the clock of this machine, as of the latest answer."""

    def __init__(self) -> None:
        self._ahead_ms = 0

    def note(self, server_ms: int) -> None:
        """Note the server's time in an answer that has just come."""
        self._ahead_ms = server_ms - now()

    def now(self) -> int:
        """Return the server's time in Unix milliseconds."""
        return now() + self._ahead_ms
