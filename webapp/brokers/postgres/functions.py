"""The functions of the schema that the broker calls over the connections that read."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

from ...errors import ServiceUnavailable
from ..steps import Steps

if TYPE_CHECKING:
    from .database import ReadChannels

_SETTLE_TIMEOUT_S = 20.0  # how long a read of the index waits for removals
_TYPES = {
    "announce_singles": ("text",),
    "before_topics": ("bigint", "integer", "bigint", "text[]"),
    "bounds": ("bigint",),
    "end_turn": ("text", "integer"),
    "ends": ("text[]",),
    "newest": ("text[]", "bigint", "boolean"),
    "newest_end": (),
    "positions_of": ("text", "bigint", "integer", "text[]"),
    "read_after": ("bigint", "bigint"),
    "read_at": ("bigint[]", "bigint"),
    "read_before": ("bigint", "integer", "bigint"),
    "read_topics": ("bigint", "bigint", "text[]"),
    "remove": ("text", "bigint", "bigint"),
    "removed_by": ("bigint",),
    "settle": (),
    "take_turn": ("text", "integer"),
    "usage": ("integer",),
    "topics": ("text", "text", "integer", "integer", "text[]"),
}


class Functions:
    """Calls them by name; each call is one transaction."""

    def __init__(self, channels: ReadChannels) -> None:
        self._channels = channels
        self._steps = Steps()

    def rows(self, name: str, *values: Any) -> list[Any]:
        """Return the rows of a function that reads."""
        return self._channels.call(_call_of(name), values, tries=2)

    def index_rows(self, name: str, *values: Any) -> list[Any]:
        """Return the rows of a function that reads the index by topic: at least one.

        :raises ServiceUnavailable: removals take too long.
        """
        until = monotonic() + _SETTLE_TIMEOUT_S
        statement = f"{_call_of(name)} WHERE tidings.is_current()"
        while monotonic() < until:
            if rows := self._channels.call(statement, values, tries=2):
                return rows
            self.step("settle")
        detail = "Many events are being removed from the event log."
        raise ServiceUnavailable(detail, "Try again in a moment.")

    def write(self, name: str, *values: Any) -> Any:
        """Return the row of a function that writes, or its only value. It is sent once."""
        [row] = self._channels.call(_call_of(name), values)
        return row if len(row) > 1 else row[0]

    def step(self, name: str, *values: Any) -> Any:
        """Do what `write` does, when it is the turn of a step: others wait for its lock."""
        with self._steps.turn():
            return self.write(name, *values)


def _call_of(name: str) -> str:
    marks = ", ".join(f"%s::{it}" for it in _TYPES[name])
    return f"SELECT * FROM tidings.{name}({marks})"  # noqa: S608 - names in this file
