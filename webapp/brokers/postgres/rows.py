"""How an event is stored: as a row with one integer key, `ms << 20 | seq`, its content, and when it
expires.

43 bits of milliseconds reach the year 2248, and a sequence that overflows continues in the next
millisecond.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from ...core.events import Event, EventId
from ..base import Bounds, decode_event, decode_events

if TYPE_CHECKING:
    from collections.abc import Sequence

    Row = tuple[int, str, int | None]

_SEQ_BITS = 20
LAST_KEY = (1 << 63) - 1


class Page(NamedTuple):
    """Rows of the event log, and its state at that moment."""

    bounds: Bounds
    known: bool  # the event log has the position that the page was read from
    upto: EventId  # the page has all wanted events up to here
    notice: int  # the number of the newest notice of presence
    clock: int  # the server's time in Unix milliseconds
    rows: list[Row]

    @property
    def events(self) -> list[Event]:
        """The events that subscribers may see."""
        return shown(self.entries)

    @property
    def entries(self) -> list[Event]:
        """These, and all else that is stored."""
        return decode_events(self.rows, decode_row)


def parse_page(rows: Sequence[Any]) -> Page:
    """Return the page that a function of reads.sql has returned."""
    (floor, *_), (head, known, _), (upto, *_), (notice, *_), (clock, *_), *events = rows
    bounds = Bounds(from_key(floor), from_key(head))
    return Page(bounds, known is not None, from_key(upto), notice, clock, events)


def shown(entries: list[Event]) -> list[Event]:
    """Return those that are events. The server has left nothing of others that may be seen."""
    return [it for it in entries if not it.is_hidden]


def decode_row(row: Row) -> Event:
    """Return the event of a row.

    :raises ValueError: the row is damaged.
    """
    key, text, expires = row
    event = decode_event(from_key(key), text)
    if expires is None or event.is_hidden:
        return event
    return Event(event.position, replace(event.draft, ttl=expires - event.position.ms))


def to_key(position: EventId) -> int:
    """Return the key of a position; a position that is too high for a key becomes the last one."""
    return min(position.ms << _SEQ_BITS | min(position.seq, (1 << _SEQ_BITS) - 1), LAST_KEY)


def from_key(key: int) -> EventId:
    """Return the position of a key."""
    return EventId(key >> _SEQ_BITS, key & (1 << _SEQ_BITS) - 1)
