"""The result of looking topics up in the directory."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ..core.events import EventId


class FoundTopics(NamedTuple):
    """The topics of all events between two positions that a feed matches."""

    names: list[str] | None
    """None: they are too many."""
    after: EventId
    upto: EventId

    def cover(self, after: EventId, upto: EventId) -> bool:
        """Whether they are the topics of all events between two positions, too."""
        return self.after <= after and upto <= self.upto
