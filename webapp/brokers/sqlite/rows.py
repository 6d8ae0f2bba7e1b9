"""How an event is stored: as a row of text with one integer key.

The key is `ms << 20 | seq`. 43 bits of milliseconds reach the year 2248, and a sequence that
overflows continues in the next millisecond.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ...core.events import EventId
from ..base import decode_event, decode_events
from ..hidden import hide, visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...core.events import Draft, Event
    from ...core.removals import Removal

SEQ_BITS = 20
LAST_KEY = (1 << 63) - 1
ROW_BYTES = 40
"""What a row takes on disk beside its text."""
_ALTERNATE_BYTES = 70  # what an alternate topic takes in the index
_EXPIRATION_BYTES = 40  # what it takes that an event expires, in a table and its index
_END_BYTES = 60  # what an ended topic takes beside its name, in the table of ends and its index

TOPIC = "iif(typeof(name.key) = 'text', name.key, name.value)"
"""The SQL of a topic, where `name` is of `json_each(draft, '$[0]')`; see `Draft.to_json`."""


class Row(NamedTuple):
    """A draft that is to be stored."""

    draft: Draft
    text: str
    size: int  # bytes on disk, about


class Page(NamedTuple):
    """Rows of the event log, each as a line for `decode_row`."""

    rows: list[str]
    end: EventId | None  # position of the last row, or of the first one if read backwards
    pending: Sequence[Removal] = ()  # removals that had begun when it was read

    @property
    def events(self) -> list[Event]:
        """The events that subscribers may see."""
        return visible(decode_events(self.rows, decode_row), self.pending)

    @property
    def entries(self) -> list[Event]:
        """These, and all else that is stored."""
        return hide(decode_events(self.rows, decode_row), self.pending)


def encode_row(draft: Draft) -> Row:
    """Return the row that stores a draft."""
    text = draft.to_json()
    size = len(text.encode()) + ROW_BYTES + _ALTERNATE_BYTES * (len(draft.topics) - 1)
    if draft.ended:
        size += sum(len(topic.encode()) + _END_BYTES for topic in draft.topics)
    if draft.ttl:
        size += _EXPIRATION_BYTES
    return Row(draft, text, size)


def decode_row(line: str) -> Event:
    """Return the event of a row of a page.

    :raises ValueError: the row is damaged.
    """
    key, _, text = line.partition(" ")
    return decode_event(from_key(int(key)), text)


def to_key(position: EventId) -> int:
    """Return the key of a position; a position that is too high for a key becomes the last one."""
    return min(position.ms << SEQ_BITS | min(position.seq, (1 << SEQ_BITS) - 1), LAST_KEY)


def from_key(key: int) -> EventId:
    """Return the position of a key."""
    return EventId(key >> SEQ_BITS, key & (1 << SEQ_BITS) - 1)


def to_page(end: int | None, text: str | None, pending: Sequence[Removal] = ()) -> Page:
    """Return the page that a statement selected.

    :param text: the lines of all rows.
    :param pending: removals that had begun before.
    """
    return Page(text.split("\n") if text else [], None if end is None else from_key(end), pending)
