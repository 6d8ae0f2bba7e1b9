"""The event log of many machines: one stream in Redis or Valkey.

Two more keys lie beside it in the same slot: a hash from custom ids to positions, and a queue of
these ids, which are removed with their events. Whatever must be atomic is one call of a script
(log.lua). The server assigns the positions, so all processes see one order.

A new event log begins at a position of the server's time. So a cursor from before the event log was
erased lies below its floor. Other losses, after a failover to a replica that lagged or because the
follower itself lagged, are noticed at the next page: it says whether the event log still has the
position that the page was read from. A head that is further on would prove nothing.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gevent.event import Event as Signal

from ...core.events import Draft, Event, EventId
from ...errors import ContentTooLarge
from ..base import Bounds, Gap, conflict, decode_events
from ..lead import Lead
from ..outage import Outage
from .client import RedisClient
from .scripts import Script, ScriptCall

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_STREAM = "{tidings}:log"
_KEYS = (_STREAM, "{tidings}:ids", "{tidings}:queue")
_SCRIPT = Script((Path(__file__).parent / "log.lua").read_text(), _KEYS)
_LONGEST_PAUSE_S = 3.0  # of a follower, between two tries to reach the server
_PAGE_BYTES = 256 << 10
_POSITION = re.compile(rb"\d{1,20}-\d{1,20}")
_NO_LIMIT = 1 << 30  # events
_LAST = EventId(2**64 - 1, 2**64 - 1)  # the last position that Redis can store


class RedisBroker:
    """A stream with the newest events, bounded in number, bytes and age.

    :param url: `redis://` or `rediss://`, with redis-py's options in its query.
    :param max_age: in seconds.
    """

    def __init__(self, url: str, max_events: int, max_bytes: int, max_age: float) -> None:
        self._limits = (str(max_events), str(round(max_age * 1000)), str(max_bytes))
        self.client = RedisClient(url, make_room=self._script("make_room"))
        self._max_events, self._max_bytes = max_events // 2, max_bytes // 2  # of one request
        self._lead = Lead(max_events, max_bytes)
        self._closed = Signal()

    def append(self, drafts: Sequence[Draft]) -> list[Event]:
        """Append all drafts, or none; see `Broker.append`.

        They are sent once: if the answer is lost, they may be in the event log.

        :raises ContentTooLarge: they would trim half of the event log.
        """
        texts = [text for draft in drafts for text in (draft.id or "", draft.to_json())]
        size = sum(map(len, texts))
        self._check_size(len(drafts), size)
        self._lead.begin(len(drafts), size)
        positions: list[EventId] = []
        try:
            answer = self.client.call_once(self._script("append", *texts))
            if answer is None:
                raise conflict()
            positions = [_position(text) for text in answer]
        finally:
            self._lead.end(max(positions, default=None), len(drafts), size)
        return list(map(Event, positions, drafts))

    def _check_size(self, events: int, size: int) -> None:
        if events > 1 and (events > self._max_events or size > self._max_bytes):
            detail = "The events of one request would take more than half of the event log."
            remedy = (
                "Publish fewer at once, or raise TIDINGS_HISTORY_EVENTS and TIDINGS_HISTORY_BYTES."
            )
            raise ContentTooLarge(detail, remedy)

    def follow(self, after: EventId) -> Iterator[list[Event] | Gap]:
        """Yield the events after a position, in order, until the broker is closed."""
        reader, outage = self.client.blocking_reader(), Outage(_LONGEST_PAUSE_S)
        connected = False
        while not self._closed.is_set():
            self._lead.followed(after)
            call = self._read_script(after, check=True)
            try:
                # On a new connection, look for a gap before waiting for events.
                answer = (
                    reader.wait_for(_STREAM, str(after), call) if connected else reader.call(call)
                )
                page = _page(after, answer)
            except Exception as error:  # noqa: BLE001 - whatever the stream contains
                if self._closed.is_set():
                    return
                connected = False
                self._closed.wait(outage.pause_after(error))
                continue
            outage.over()
            connected = True
            if not page.known:
                gap = page.bounds.gap_after(after)
                after = gap.position
                yield gap
            elif page.lines:
                after = page.end
                if events := page.events:
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
            after = page.end  # all rows were damaged

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
            known = max(position) < 2**64 and self._read(position, limit=0, check=True).known
            return position if known else None
        found = self.client.call(self._script("position_of", id))
        return _position(found) if found else None

    def close(self) -> None:
        """Close the connections; `follow` ends."""
        self._closed.set()
        self.client.close()

    def _script(self, verb: str, *arguments: str) -> ScriptCall:
        return ScriptCall(_SCRIPT, [verb, *self._limits, *arguments])

    def _read(self, position: EventId, command: str = "XRANGE", **limits: Any) -> _Page:
        call = self._read_script(position, command, **limits)
        return _page(position, self.client.call(call))

    def _read_script(
        self,
        position: EventId,
        command: str = "XRANGE",
        *,
        limit: int = _NO_LIMIT,
        max_bytes: int = _PAGE_BYTES,
        check: bool = False,  # whether the event log has the position
    ) -> ScriptCall:
        edge = "+" if command == "XRANGE" else "-"
        limits = (str(limit), str(max_bytes), "check" if check else "")
        return self._script("read", command, str(position), edge, *limits)


class _Page(NamedTuple):
    """Some entries, and the state of the event log at that moment."""

    bounds: Bounds
    known: bool  # the event log has the position that the page was read from
    lines: list[bytes]  # `<position> <draft>`
    total: int  # entries of the whole event log

    @property
    def end(self) -> EventId:
        return _position(self.lines[-1].partition(b" ")[0])

    @property
    def events(self) -> list[Event]:
        return decode_events(self.lines, _decode_line)


def _page(position: EventId, answer: Any) -> _Page:
    stored, first, head, known, text, count = answer
    end = _position(head)
    floor = _before(_position(first)) if first else end
    # Another program may have written a floor that is no position, or is after the head.
    if stored and _POSITION.fullmatch(stored):
        floor = min(floor, _position(stored))
    bounds = Bounds(floor, end)
    lines = text.split(b"\n") if text else []
    return _Page(bounds, bool(known) or position in bounds, lines, count)


def _decode_line(line: bytes) -> tuple[EventId, str]:
    position, _, text = line.partition(b" ")
    return _position(position), text.decode()


def _position(text: bytes) -> EventId:
    ms, _, seq = text.partition(b"-")
    return EventId(int(ms), int(seq))


def _before(position: EventId) -> EventId:
    # Not the highest sequence there is: the position after this one must be valid, too.
    if position.seq:
        return EventId(position.ms, position.seq - 1)
    return EventId(position.ms - 1, 2**63)
