"""Removes events, in steps between which others append."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import ServiceUnavailable
from ..base import Removed
from .rows import from_key, to_key

if TYPE_CHECKING:
    from ...core.removals import Removal
    from .functions import Functions


class Remover:
    """Runs the steps of removals; any process may do the next one."""

    def __init__(self, functions: Functions) -> None:
        self._functions = functions

    def remove(self, removal: Removal) -> Removed:
        """Remove events; see `Broker.remove`."""
        values = removal.topic, to_key(removal.first), to_key(removal.last)
        entry, number = self._functions.step("remove", *values)
        if number == -1:
            detail = "Many removals are being done."
            raise ServiceUnavailable(detail, "Try again in a moment.")
        while number is None:
            self._functions.step("settle")
            number = self._functions.write("removed_by", entry)
        return Removed(number, None if entry is None else from_key(entry))

    def settle(self) -> None:
        """Finish the removals whose processes have ended, and take out what has expired."""
        while self._functions.step("settle"):
            pass
