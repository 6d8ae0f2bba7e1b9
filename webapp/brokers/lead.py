"""Make publishers to Redis wait while the follower of their process is far behind them.

`Lead` knows which appended batches the follower has not read yet. Its `Backlog` counts their bytes,
and decides when the next append may begin.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from .backlog import Backlog, is_large
from .base import too_fast

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..core.events import Draft, EventId
    from .backlog import SharedTurn

_LEAD_DIVISOR = 4  # a quarter of what the event log keeps
_TIMEOUT_S = 10.0  # how long a publisher waits
_TOPIC_BYTES = 300  # that each topic of an event but its first counts: it is indexed like an event


class Lead:
    """Counts what this process has appended and its follower has not read yet. If it were trimmed
    first, all subscribers would miss it. So publishers wait when it is a quarter of the event log.

    :param max_events: how many events the event log keeps.
    :param max_bytes: how many bytes of them.
    :param turn: that of all processes; None: there is none.
    """

    def __init__(self, max_events: int, max_bytes: int, turn: SharedTurn | None = None) -> None:
        self._least = max_bytes // max_events  # bytes that an event counts, so that it bounds both
        self.backlog = Backlog(max(1, max_bytes // _LEAD_DIVISOR), turn)
        self._batches: deque[tuple[EventId, int]] = deque()  # not yet read by the follower
        self._position: EventId | None = None  # of the follower, once there is one

    def begin(self, events: int, size: int) -> None:
        """Wait until a batch may be appended; `end` must follow.

        :raises ServiceUnavailable: the follower did not catch up.
        """
        counted = max(size, events * self._least)
        weighed = counted if events > 1 else size  # in a short event log, too, one event is small
        if self._position and not self.backlog.wait_for_room(events, weighed, _TIMEOUT_S):
            raise too_fast()
        self.backlog.begin(counted, large=is_large(events, weighed))

    def end(self, last: EventId | None, events: int, size: int) -> None:
        """Note the position of a batch's last event; None: it may not be in the event log."""
        counted = max(size, events * self._least)
        if last and self.is_unread(last):
            self._batches.append((last, counted))
        else:
            self.backlog.add(-counted)

    def is_unread(self, position: EventId) -> bool:
        """Whether there is a follower that has not read up to a position."""
        return self._position is not None and self._position < position

    def followed(self, position: EventId) -> None:
        """Note up to which position the follower has read."""
        self._position = position
        while self._batches and self._batches[0][0] <= position:
            self.backlog.add(-self._batches.popleft()[1])


def weigh(drafts: Sequence[Draft], size: int) -> int:
    """Return the bytes that an append counts: for the server, a topic is as much work as an event.

    :param size: bytes of the drafts.
    """
    return size + _TOPIC_BYTES * sum([len(draft.topics) - 1 for draft in drafts])
