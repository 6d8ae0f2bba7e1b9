"""How an event lies in the file of a log: as a row of text, under one integer key.

The key is `ms << 20 | seq`: 43 bits of milliseconds reach the year 2248, and a sequence that
overflows goes on in the next millisecond.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ...core.events import EventId

if TYPE_CHECKING:
    from ...core.events import Draft

SEQ_BITS = 20
LAST_KEY = (1 << 63) - 1
_ROW_BYTES = 40  # of a row on disk, beside its text


class Row(NamedTuple):
    """A draft to keep."""

    own: str | None
    text: str
    size: int  # bytes on disk, about


def encode_row(draft: Draft) -> Row:
    """Return the row that keeps a draft."""
    text = draft.to_json()
    return Row(draft.id, text, len(text.encode()) + _ROW_BYTES)


def decode_row(row: str) -> tuple[EventId, str]:
    """Return the place and the text of a page's row.

    :raises ValueError: it is not what was kept.
    """
    key, _, text = row.partition(" ")
    return place_of(int(key)), text


def key_of(position: EventId) -> int:
    """Return the key of a place; one that no log can hold becomes one at the end."""
    return min(position.ms << SEQ_BITS | min(position.seq, (1 << SEQ_BITS) - 1), LAST_KEY)


def place_of(key: int) -> EventId:
    """Return the place that a key is for."""
    return EventId(key >> SEQ_BITS, key & (1 << SEQ_BITS) - 1)
