"""How an event is stored: as a row of text with one integer key.

The key is `ms << 20 | seq`. 43 bits of milliseconds reach the year 2248, and a sequence that
overflows continues in the next millisecond.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ...core.events import EventId
from ..base import decode_event

if TYPE_CHECKING:
    from ...core.events import Draft, Event

SEQ_BITS = 20
LAST_KEY = (1 << 63) - 1
_ROW_BYTES = 40  # what a row takes on disk beside its text
_ALTERNATE_BYTES = 70  # what an alternate topic takes in the index


class Row(NamedTuple):
    """A draft that is to be stored."""

    custom_id: str | None
    topic: str  # the canonical one
    text: str
    size: int  # bytes on disk, about


class Page(NamedTuple):
    """Some rows, each as a line for `decode_row`."""

    rows: list[str]
    end: EventId | None  # position of the last row, or of the first one if read backwards


def encode_row(draft: Draft) -> Row:
    """Return the row that stores a draft."""
    text = draft.to_json()
    index_bytes = _ALTERNATE_BYTES * (len(draft.topics) - 1)
    return Row(draft.id, draft.topics[0], text, len(text.encode()) + _ROW_BYTES + index_bytes)


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


def to_page(end: int | None, text: str | None) -> Page:
    """Return the page that a statement selected.

    :param text: the lines of all rows.
    """
    return Page(text.split("\n") if text else [], None if end is None else from_key(end))
