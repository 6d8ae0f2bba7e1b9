"""The turn of large appends among all processes, in a row of a table."""

from __future__ import annotations

import secrets
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING

import gevent

from ...errors import TidingsError
from ..backlog import PATIENCE_S

if TYPE_CHECKING:
    from ..backlog import Backlog
    from .functions import Functions

_TURN_MS = 1500  # of a process that does not end it
_LOOK_INTERVAL_S = 0.25  # while no single events come, here or to another process


class PostgresTurn:
    """See `SharedTurn`. An append waits for it for a second at most."""

    backlog: Backlog

    def __init__(self, functions: Functions) -> None:
        self._functions = functions
        self._process = secrets.token_hex(8)
        self._held = False
        self._looked_at = -_LOOK_INTERVAL_S

    def take(self, _: int, waited: float, *, beside_singles: bool) -> bool:
        """Return whether a large append may begin now; see `SharedTurn.take`.

        :raises ServiceUnavailable: the server did not say so.
        """
        looked = monotonic() - self._looked_at < _LOOK_INTERVAL_S
        if waited >= PATIENCE_S or (looked and not beside_singles):
            return True
        taken, elsewhere = self._functions.write("take_turn", self._process, _TURN_MS)
        self._held = taken
        if elsewhere:
            self.backlog.note_singles_elsewhere()
        elif not beside_singles:
            self._looked_at = monotonic()
            return True
        return bool(taken)

    def end(self, rest: float) -> None:
        """End the turn, if this process has it. No process can take it for some seconds."""
        if self._held:
            self._held = False
            gevent.spawn(self._write, "end_turn", self._process, round(rest * 1000))

    def announce_singles(self) -> None:
        """Let the other processes know that single events come to this one."""
        gevent.spawn(self._write, "announce_singles", self._process)

    def _write(self, name: str, *values: str | int) -> None:
        with suppress(TidingsError):  # a turn ends by itself, and single events are announced again
            self._functions.write(name, *values)
