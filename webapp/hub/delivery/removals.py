"""The newest removals of this process, for streams that hold events that they have not sent."""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING

from ...core.events import EventId
from ...core.removals import Removal

if TYPE_CHECKING:
    from ...core.events import Event

AFTER_ALL = EventId(1 << 62, 0)
"""A position after all that there are."""
_REMEMBERED_REMOVALS = 1000


class Removals:
    """The newest removals that this process has done in its window. Who holds events remembers the
    `count` before it read them.
    """

    def __init__(self) -> None:
        self.count = 0
        self._latest = deque[Removal](maxlen=_REMEMBERED_REMOVALS)

    def add(self, removal: Removal) -> None:
        """Note a removal. From now on, nobody can read what it removes."""
        self.count += 1
        self._latest.append(removal)

    def since(self, count: int) -> list[Removal] | None:
        """Return the removals after the first `count`; None: they are too many."""
        new = self.count - count
        return None if new > _REMEMBERED_REMOVALS else list(self._latest)[len(self._latest) - new :]

    def touch(self, count: int, after: EventId, upto: EventId) -> bool:
        """Whether a removal after the first `count` may concern events after a position and up to
        another one.
        """
        if count == self.count:
            return False
        new = self.since(count)
        return new is None or any(may_concern(it, after, upto) for it in new)

    def without(self, count: int, events: list[Event]) -> list[Event]:
        """Return those of some events that no removal after the first `count` has removed.

        :raises BrokenPipeError: the removals are too many; the stream has to begin again.
        """
        if count == self.count:
            return events
        new = self.since(count)
        if new is None:
            raise BrokenPipeError(errno.EPIPE, "too many removals")
        return [it for it in events if not any(removal.hides(it) for removal in new)]


def may_concern(removal: Removal, after: EventId, upto: EventId) -> bool:
    """Whether a removal may concern events after a position and up to another one."""
    return removal.first <= upto and removal.last > after
