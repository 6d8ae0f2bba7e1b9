"""The log of many machines: one Stream in Redis or Valkey.

Two more keys lie beside it in the same slot: a hash from the publishers' own ids to places, and a
queue of those ids, from which they are forgotten in step with the stream. What must not be torn
apart is one script (redis.lua). The server gives the places, so all processes see one order.

A log is born at a place of the server's time, so that a cursor from before it was erased lies below
its floor. Whatever else is lost, by a failover to a replica that lagged, or because the follower
lagged itself, is noticed because each page comes with the answer whether the log still holds the
place that it was read from: that the head is further on would prove nothing.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from random import uniform
from typing import TYPE_CHECKING, Any, NamedTuple

from gevent.event import Event as Signal

from ...core.events import Draft, Event, EventId
from ...errors import ServiceUnavailable
from ...tasks import skip
from ..base import Bounds, Gap, conflict
from .client import RedisClient
from .presence import ROSTER_KEYS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

logger = logging.getLogger(__name__)

_HERE = Path(__file__).parent
_PARTS = ((_HERE / name).read_text() for name in ("log.lua", "presence.lua"))
_SCRIPT = "\n".join([*_PARTS, "return verbs[ARGV[1]]()"])
_KEYS = ("{tidings}:log", "{tidings}:ids", "{tidings}:queue", *ROSTER_KEYS)
_BACKOFF = (0.1, 3.0)  # seconds: the first rest of an outage, and the longest
_PAGE = 256 << 10  # bytes asked for at once
_PLACE = re.compile(rb"\d{1,20}-\d{1,20}")
_ALL = 1 << 30  # events: no bound
_LAST = EventId(2**64 - 1, 2**64 - 1)  # the last place that Redis can keep


class RedisBroker:
    """The newest events that a server keeps, bounded in number, bytes and age.

    :param url: `redis://` or `rediss://`, with redis-py's options in its query.
    :param max_age: in seconds.
    """

    def __init__(self, url: str, max_events: int, max_bytes: int, max_age: float) -> None:
        self._limits = (str(max_events), str(round(max_age * 1000)), str(max_bytes))
        self.link = RedisClient(url, _SCRIPT, _KEYS, relieve=["relieve", *self._limits])
        self._closed = Signal()

    def append(self, drafts: Sequence[Draft]) -> list[Event]:
        """Put all drafts in the log, or none; see `Broker.append`.

        They are sent once: where the answer is lost, they may be in the log.
        """
        texts = [text for draft in drafts for text in (draft.id or "", draft.to_json())]
        positions = self.link.write(["append", *self._limits, *texts])
        if positions is None:
            raise conflict()
        return [Event(_position(p), draft) for p, draft in zip(positions, drafts, strict=True)]

    def follow(self, after: EventId) -> Iterator[list[Event] | Gap]:
        """Yield what comes after a place, in order, until the broker is closed."""
        news, failures, known = self.link.watch(), 0, False
        while not self._closed.is_set():
            try:
                # On a new connection what is lost is told before news is waited for.
                order = self._order(after, held="held")
                page = _page(after, news(str(after) if known else None, order))
            except Exception as error:  # noqa: BLE001 - whatever lies in the log
                if not isinstance(error, ServiceUnavailable):
                    skip("log", error)
                self._rest(error, failures)
                failures, known = failures + 1, False
                continue
            if failures:
                logger.warning("the event log is available again")
            failures, known = 0, True
            if not page.held:
                gap = _gap(after, page.bounds)
                after = gap.position
                yield gap
            elif page.lines:
                after = page.end
                if events := page.events:
                    yield events

    def read(self, after: EventId, max_bytes: int) -> list[Event]:
        """Return a page of the events after a place."""
        return self.read_page(after, max_bytes)[0]

    def read_page(self, after: EventId, max_bytes: int) -> tuple[list[Event], Bounds]:
        """Return a page of the events after a place, and the bounds of that moment."""
        while True:
            page = self._read(after, max_bytes=max_bytes)
            if (events := page.events) or not page.lines:
                return events, page.bounds
            after = page.end  # none of it was an event

    def before(self, position: EventId, limit: int, max_bytes: int) -> list[Event]:
        """Return the newest events before a place, in the log's order."""
        found: list[Event] = []
        position = min(position, _LAST)
        while limit > 0 and max_bytes > 0 and position > (0, 0):
            size = min(max_bytes, _PAGE)
            page = self._read(position, "XREVRANGE", limit=limit, max_bytes=size)
            if not page.lines:
                break
            position = page.end
            found += page.events
            limit -= len(page.lines)
            max_bytes -= sum(map(len, page.lines))
        return found[::-1]

    def bounds(self) -> Bounds:
        """Return where the log begins and ends now."""
        return self._read(_LAST, limit=0).bounds

    def count(self) -> int:
        """Return how many events the log keeps now."""
        return self._read(_LAST, limit=0).kept

    def position_of(self, id: str) -> EventId | None:
        """Return the place that an id names, or None where the log does not hold it."""
        if position := EventId.parse(id):
            known = max(position) < 2**64 and self._read(position, limit=0, held="held").held
            return position if known else None
        found = self.link.read(["locate", *self._limits, id])
        return _position(found) if found else None

    def close(self) -> None:
        """Let go of the server; `follow` ends."""
        self._closed.set()
        self.link.close()

    def _read(self, position: EventId, command: str = "XRANGE", **bounds: Any) -> _Page:
        return _page(position, self.link.read(self._order(position, command, **bounds)))

    def _order(
        self,
        position: EventId,
        command: str = "XRANGE",
        limit: int = _ALL,
        max_bytes: int = _PAGE,
        held: str = "",  # "held": ask whether the log holds the position
    ) -> list[str]:
        edge = "+" if command == "XRANGE" else "-"
        bounds = (str(limit), str(max_bytes), held)
        return ["read", *self._limits, command, str(position), edge, *bounds]

    def _rest(self, error: Exception, failures: int) -> None:
        """Wait before the next try: not all processes at once, and not for long."""
        if not failures and not self._closed.is_set():
            logger.error("the event log is unavailable: %s", error)
        first, longest = _BACKOFF
        rest = min(longest, first * 2 ** min(failures, 10))
        self._closed.wait(uniform(rest / 2, rest))  # noqa: S311 - no secret


class _Page(NamedTuple):
    """Some of the log, and what the log was like at that moment."""

    bounds: Bounds
    held: bool  # whether the log holds the place that the page was read from
    lines: list[bytes]  # "<place> <draft>"
    kept: int  # entries of the whole log

    @property
    def end(self) -> EventId:
        return _position(self.lines[-1].partition(b" ")[0])

    @property
    def events(self) -> list[Event]:
        return [event for line in self.lines if (event := _event(line))]


def _page(position: EventId, answer: Any) -> _Page:
    stored, first, head, held, text, kept = answer
    end = _position(head)
    floor = _before(_position(first)) if first else end
    # A floor that somebody else wrote may be none, or lie where the log has not come yet.
    if stored and _PLACE.fullmatch(stored):
        floor = min(floor, _position(stored))
    bounds = Bounds(floor, end)
    lines = text.split(b"\n") if text else []
    return _Page(bounds, bool(held) or position in bounds, lines, kept)


def _event(line: bytes) -> Event | None:
    position, _, text = line.partition(b" ")
    try:
        return Event(_position(position), Draft.from_json(text.decode()))
    except Exception as error:  # noqa: BLE001 - subscribers go on without it
        skip("log", error)
        return None


def _position(text: bytes) -> EventId:
    ms, _, seq = text.partition(b"-")
    return EventId(int(ms), int(seq))


def _before(position: EventId) -> EventId:
    # Not the highest number there is: a place that follows one must fit, too.
    return (
        EventId(position.ms, position.seq - 1) if position.seq else EventId(position.ms - 1, 2**63)
    )


def _gap(after: EventId, bounds: Bounds) -> Gap:
    return Gap(bounds.floor, "aged") if after < bounds.floor else Gap(bounds.head, "unknown")
