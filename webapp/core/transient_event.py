"""An event that is delivered and not stored."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from . import sse
from .events import Event, EventId

if TYPE_CHECKING:
    from .events import Draft


class TransientEvent(Event):
    """An event that is not in the event log. A client cannot resume from it, so it has no id on the
    wire.

    :param number: its position among the transient events of this process.
    """

    __slots__ = ("_time",)

    def __init__(self, number: int, draft: Draft) -> None:
        super().__init__(EventId(0, number), draft)
        self.frame = sse.encode(draft.data, type=draft.type)
        self._time = time.time_ns() // 1_000_000

    def envelope_frame(self, topics: tuple[str, ...]) -> bytes:
        """Return a frame as other events have it; its time is when this object was built."""
        return self._enveloped(self._envelope(topics, None, self._time), None)
