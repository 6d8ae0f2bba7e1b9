"""The event log of many machines: one stream in Redis or Valkey.

Three more keys lie beside it in the same slot: a hash from custom ids to positions, a queue of
these ids, which are removed with their events, and what the followers say of themselves. Whatever
must be atomic is one call of a script (log.lua). The server assigns the positions, so all processes
see one order.

A new event log begins at a position of the server's time. So a cursor from before the event log was
erased lies below its floor. Other losses, after a failover to a replica that lagged or because the
follower itself lagged, are noticed at the next page: it says whether the event log still has the
position that the page was read from. A head that is further on would prove nothing.
"""

from __future__ import annotations

import logging
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from gevent.event import Event as Signal

from ...core.events import Draft, Event, EventId
from ...errors import ContentTooLarge
from ...scheduling import map_cooperatively
from ..base import Bounds, Gap, conflict, decode_event, decode_events
from ..lead import Lead
from ..outage import Outage
from ..unindexed import Unindexed
from .client import RedisClient
from .own_events import OwnEvents
from .scripts import Script, ScriptCall
from .turn import RedisTurn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

logger = logging.getLogger(__name__)

_STREAM = "{tidings}:log"
_KEYS = (_STREAM, "{tidings}:ids", "{tidings}:queue", "{tidings}:followers")
_SCRIPT = Script(("common.lua", "stream.lua", "followers.lua", "log.lua"), _KEYS)
_LONGEST_PAUSE_S = 3.0  # of a follower, between two tries to reach the server
_PAGE_BYTES = 256 << 10
_NO_LIMIT = 1 << 30  # events
_CHECK = "check"
_LAST = EventId(2**64 - 1, 2**64 - 1)  # the last position that Redis can store
_DELETED = "entries of another program in the event log were too large and were deleted: %d"


class RedisBroker(Unindexed):
    """A stream with the newest events, bounded in number, bytes and age.

    :param url: `redis://` or `rediss://`, with redis-py's options in its query.
    :param max_age: in seconds.
    """

    def __init__(self, url: str, max_events: int, max_bytes: int, max_age: float) -> None:
        self._limits = (str(max_events), str(round(max_age * 1000)), str(max_bytes))
        self.client = RedisClient(url, make_room=self._script("make_room"))
        self._max_events, self._max_bytes = max_events // 2, max_bytes // 2  # of one request
        self._turn = RedisTurn(self._call, max_events, max_bytes)
        self._lead = Lead(max_events, max_bytes, self._turn)
        self._turn.backlog = self._lead.backlog
        self._own = OwnEvents()
        self._closed = Signal()

    def append(self, drafts: Sequence[Draft]) -> list[Event]:
        """Append all drafts, or none; see `Broker.append`.

        They are sent once: if the answer is lost, they may be in the event log.

        :raises ContentTooLarge: they would trim half of the event log.
        """
        texts = map_cooperatively(Draft.to_json, drafts)
        size = sum(map(len, texts))
        if len(drafts) > 1 and (len(drafts) > self._max_events or size > self._max_bytes):
            detail = "The events of one request would take more than half of the event log."
            remedy = (
                "Publish fewer at once, or raise TIDINGS_HISTORY_EVENTS and TIDINGS_HISTORY_BYTES."
            )
            raise ContentTooLarge(detail, remedy)
        self._lead.begin(len(drafts), size)
        positions: list[EventId] = []
        try:
            ids = [draft.id or "" for draft in drafts]
            arguments = chain.from_iterable(zip(ids, texts, strict=True))
            answer = self.client.call_once(self._script("append", *arguments))
            if answer is None:
                raise conflict()
            positions = [_position(text) for text in answer]
            events = map_cooperatively(Event, positions, drafts)
        finally:
            self._lead.end(max(positions, default=None), len(drafts), size)
        for text, event in zip(texts, events, strict=True):
            if self._lead.is_unread(event.position):
                self._own.add(text, event)
        return events

    def follow(self, after: EventId) -> Iterator[list[Event] | Gap]:
        """Yield the events after a position, in order, until the broker is closed."""
        reader, outage = self.client.blocking_reader(_STREAM), Outage(_LONGEST_PAUSE_S)
        at_head = False  # on a new connection, look for a gap before waiting for events
        while not self._closed.is_set():
            self._lead.followed(after)
            self._own.followed(after)
            call = self._read_script(after, check=(_CHECK, *self._turn.report()))
            try:
                page = _page(after, reader.call(call, str(after) if at_head else None))
            except Exception as error:  # noqa: BLE001 - whatever the stream contains
                if self._closed.is_set():
                    return
                at_head = False
                self._closed.wait(outage.pause_after(error))
                continue
            outage.over()
            at_head = page.end >= page.bounds.head
            self._turn.followed(page.size, page.unread, beside_singles=page.beside_singles)
            if not page.known:
                gap = page.bounds.gap_after(after)
                after = gap.position
                self._own.clear()
                yield gap
            elif page.lines:
                after = page.end
                if events := decode_events(page.lines, self._take_or_decode):
                    yield events

    def read(self, after: EventId, max_bytes: int) -> list[Event]:
        """Return the next events after a position."""
        return self.read_page(after, max_bytes)[0]

    def read_page(self, after: EventId, max_bytes: int) -> tuple[list[Event], Bounds]:
        """Return the next events after a position, and the bounds of that moment."""
        while True:
            page = self._read(after, max_bytes=max_bytes)
            if (events := page.events) or not page.lines:
                return events, page.bounds
            after = page.end  # all entries were damaged

    def before(self, position: EventId, limit: int, max_bytes: int) -> list[Event]:
        """Return the newest events before a position, in the log's order."""
        found: list[Event] = []
        position = min(position, _LAST)
        while limit > 0 and max_bytes > 0 and position > (0, 0):
            size = min(max_bytes, _PAGE_BYTES)
            page = self._read(position, "XREVRANGE", limit=limit, max_bytes=size)
            if not page.lines:
                break
            position = page.end
            found += page.events
            limit -= len(page.lines)
            max_bytes -= sum(map(len, page.lines))
        return found[::-1]

    def bounds(self) -> Bounds:
        """Return where the event log begins and ends now."""
        return self._read(_LAST, limit=0).bounds

    def count(self) -> int:
        """Return how many events the event log has now."""
        return self._read(_LAST, limit=0).total

    def position_of(self, id: str) -> EventId | None:
        """Return the position that an id names, or None if the event log does not have it."""
        if position := EventId.parse(id):
            known = max(position) < 2**64 and self._read(position, limit=0, check=(_CHECK,)).known
            return position if known else None
        found = self._call("position_of", id)
        return _position(found) if found else None

    def close(self) -> None:
        """Close the connections; `follow` ends."""
        self._closed.set()
        self.client.close()

    def _call(self, verb: str, *arguments: str) -> Any:
        return self.client.call(self._script(verb, *arguments))

    def _take_or_decode(self, line: bytes) -> Event:
        return self._own.take(line) or _decode_line(line)

    def _script(self, verb: str, *arguments: str) -> ScriptCall:
        return ScriptCall(_SCRIPT, [verb, *self._limits, *arguments])

    def _read(self, position: EventId, command: str = "XRANGE", **limits: Any) -> _Page:
        call = self._read_script(position, command, **limits)
        while True:
            page = _page(position, self.client.call(call))
            if page.lines or not page.deleted:
                return page

    def _read_script(
        self,
        position: EventId,
        command: str = "XRANGE",
        *,
        limit: int = _NO_LIMIT,
        max_bytes: int = _PAGE_BYTES,
        check: tuple[str, ...] = (),  # whether the event log has the position; then a report
    ) -> ScriptCall:
        edge = "+" if command == "XRANGE" else "-"
        limits = str(limit), str(max_bytes)
        return self._script("read", command, str(position), edge, *limits, *check)


class _Page(NamedTuple):
    """Some entries, and the state of the event log at that moment."""

    bounds: Bounds
    known: bool  # the event log has the position that the page was read from
    end: EventId  # the last position of the page, or the one that it was read from
    lines: list[bytes]  # `<position> <draft>`
    size: int  # bytes of the lines
    total: int  # entries of the whole event log
    deleted: int  # entries that were too large; then the page may end early
    unread: int  # bytes, by the slowest follower; -1: nothing was reported
    beside_singles: bool  # single events come to another process

    @property
    def events(self) -> list[Event]:
        return decode_events(self.lines, _decode_line)


def _page(position: EventId, answer: Any) -> _Page:
    stored_floor, first, last, known, text, total, deleted, unread, beside_singles = answer
    head = _position(last)
    floor = _before(_position(first)) if first else head
    if stored_floor:
        floor = min(floor, _position(stored_floor))  # another program may have written a later one
    bounds = Bounds(floor, head)
    lines = text.split(b"\n") if text else []
    end = _position(lines[-1].partition(b" ")[0]) if lines else position
    if deleted:
        logger.warning(_DELETED, deleted)
    known = bool(known) or position in bounds
    others = int(unread), bool(beside_singles)
    return _Page(bounds, known, end, lines, len(text), total, deleted, *others)


def _decode_line(line: bytes) -> Event:
    position, _, text = line.partition(b" ")
    return decode_event(_position(position), text.decode())


def _position(text: bytes) -> EventId:
    ms, _, seq = text.partition(b"-")
    return EventId(int(ms), int(seq))


def _before(position: EventId) -> EventId:
    # Not the highest sequence there is: the position after this one must be valid, too.
    if position.seq:
        return EventId(position.ms, position.seq - 1)
    return EventId(position.ms - 1, 2**63)
