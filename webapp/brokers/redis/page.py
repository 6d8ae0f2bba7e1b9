"""What the scripts answer: entries of the event log, and where it begins and ends."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from ...core.events import Event, EventId
from ...core.removals import Removal
from ..base import Bounds, decode_event, decode_events
from ..hidden import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...core.events import Draft

logger = logging.getLogger(__name__)

_DELETED = "entries of another program in the event log were too large and were deleted: %d"


class Page(NamedTuple):
    """Entries of the event log, and its state at that moment."""

    bounds: Bounds
    known: bool  # the event log has the position that the page was read from
    end: EventId  # the last position of the page, or the one that it was read from
    lines: list[bytes]  # `<position> <draft>`, or `<position>/<ttl> <draft>`
    size: int  # bytes of the lines
    total: int  # entries of the whole event log
    deleted: int  # entries that were too large; then the page may end early
    unread: int  # bytes, by the slowest follower; -1: nothing was reported
    beside_singles: bool  # single events come to another process
    indexed: bool  # the index by topic has all entries and nothing expired; no removal goes on
    pending: Sequence[Removal]  # removals that go on
    clock: int  # the server's time, in Unix milliseconds

    @property
    def events(self) -> list[Event]:
        """The events that subscribers may see."""
        return visible(decode_events(self.lines, decode_line), self.pending, self.clock)


def parse_page(position: EventId, answer: Any) -> Page:
    """Return the answer to a read from a position."""
    *ends, known, parts, total, deleted, unread, beside_singles, indexed, removing, time = answer
    bounds = parse_bounds(*ends)
    lines = join_lines(parts)
    end = _parse_head(lines[-1].partition(b" ")[0])[0] if lines else position
    if deleted:
        logger.warning(_DELETED, deleted)
    known = bool(known) or position in bounds
    others = int(unread), bool(beside_singles), bool(indexed)
    pending = parse_removals(removing)
    size = sum(map(len, parts))
    return Page(bounds, known, end, lines, size, total, deleted, *others, pending, int(time))


def join_lines(parts: Sequence[bytes]) -> list[bytes]:
    """Return the lines of a text that the server has left in parts; see lines.lua."""
    return b"".join(parts).split(b"\n")[:-1]


def parse_removals(text: bytes | None) -> list[Removal]:
    """Return the removals that go on; see removals.lua."""
    found = list[Removal]()
    for line in text.split(b"\n") if text else ():
        _, start, last, _, _, topic = line.split(b" ", 5)
        if start != b"-":
            found.append(Removal(topic.decode(), parse_position(start), parse_position(last)))
    return found


def parse_bounds(stored_floor: bytes | None, first: bytes | None, last: bytes) -> Bounds:
    """Return where the event log begins and ends."""
    head = parse_position(last)
    floor = _before(parse_position(first)) if first else head
    if stored_floor:  # another program may have written a later one
        floor = min(floor, parse_position(stored_floor))
    return Bounds(floor, head)


def decode_line(line: bytes) -> Event:
    """Return the event of a line.

    :raises ValueError: it is damaged; or `BadRequest`.
    """
    head, _, text = line.partition(b" ")
    position, ttl = _parse_head(head)
    event = decode_event(position, text.decode())
    return Event(position, replace(event.draft, ttl=ttl)) if ttl and not event.is_hidden else event


def encode_draft(draft: Draft) -> str:
    """Return what the script appends: the text of a draft, and before it after how many
    milliseconds it expires, if it does.
    """
    return f"{draft.ttl} {draft.content()}" if draft.ttl else draft.to_json()


def _parse_head(head: bytes) -> tuple[EventId, int | None]:
    """Return what a line begins with: the position, and after how long the event expires."""
    position, _, ttl = head.partition(b"/")
    return parse_position(position), int(ttl) if ttl else None


def parse_position(text: bytes) -> EventId:
    """Return the position that the server writes so."""
    ms, _, seq = text.partition(b"-")
    return EventId(int(ms), int(seq))


def _before(position: EventId) -> EventId:
    # Not the highest sequence there is: the position after this one must be valid, too.
    if position.seq:
        return EventId(position.ms, position.seq - 1)
    return EventId(position.ms - 1, 2**63)
