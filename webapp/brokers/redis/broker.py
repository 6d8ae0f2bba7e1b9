"""The event log of many machines: one stream in Redis or Valkey.

More keys lie beside it in the same slot: a hash from own ids to positions, a queue of these ids,
which are removed with their events, what the followers say of themselves, and the index by topic.
Whatever must be atomic is one call of a script (log.lua, topics.lua). The server assigns the
positions, so all processes see one order.

A new event log begins at a position of the server's time. So a cursor from before the event log was
erased lies below its floor. Other losses, after a failover to a replica that lagged or because the
follower itself lagged, are noticed at the next page: it says whether the event log still has the
position that the page was read from. A head that is further on would prove nothing.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

from gevent.event import Event as Signal

from ...core.events import Draft, Event, EventId
from ...errors import ContentTooLarge
from ...scheduling import map_cooperatively
from ..base import TopicPage, Usage, conflict, decode_events, topic_ended
from ..hidden import followed, hide
from ..lead import Lead, weigh
from ..outage import Outage
from ..server_clock import ServerClock
from .client import RedisClient
from .own_events import OwnEvents
from .page import Page, decode_line, encode_draft, parse_bounds, parse_page, parse_position
from .remover import Remover
from .scripts import Script, ScriptCall
from .topic_index import RedisTopicIndex
from .turn import RedisTurn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ...core.globs import Glob
    from ...core.removals import Removal
    from ...core.topic_index import DirectoryPage
    from ..base import Bounds, Followed, Removed, TopicEnd

_STREAM = "{tidings}:log"
_NAMES = ("log", "ids", "queue", "followers", "topics", "held", "remnants")
_KEYS = tuple(f"{{tidings}}:{name}" for name in _NAMES)
_SHARED = (
    "common.lua",
    "stream.lua",
    "topic_index.lua",
    "taking_out.lua",
    "expirations.lua",
    "trim.lua",
    "own_ids.lua",
    "topic_ends.lua",
)
_SCRIPT = Script((*_SHARED, "append.lua", "lines.lua", "followers.lua", "log.lua"), _KEYS)
_TOPICS_SCRIPT = Script((*_SHARED, "lines.lua", "topics.lua", "removals.lua"), _KEYS)
_LONGEST_PAUSE_S = 3.0  # of a follower, between two tries to reach the server
_PAGE_BYTES = 256 << 10
_NO_LIMIT = 1 << 30  # events
_CHECK = "check"
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
        self._turn = RedisTurn(self._call, max_events, max_bytes)
        self._lead = Lead(max_events, max_bytes, self._turn)
        self._turn.backlog = self._lead.backlog
        self._own = OwnEvents()
        self._clock = ServerClock()
        self._index = RedisTopicIndex(self._call_topics)
        self._remover = Remover(self._call_topics_once, self._index.when_whole)
        self._closed = Signal()

    def append(self, drafts: Sequence[Draft]) -> list[Event]:
        """Append all drafts, or none; see `Broker.append`.

        They are sent once: if the answer is lost, they may be in the event log.

        :raises ContentTooLarge: they would trim half of the event log.
        """
        texts = map_cooperatively(encode_draft, drafts)
        size = sum(map(len, texts))
        if len(drafts) > 1 and (len(drafts) > self._max_events or size > self._max_bytes):
            detail = "The events of one request would take more than half of the event log."
            remedy = (
                "Publish fewer at once, or raise TIDINGS_HISTORY_EVENTS and TIDINGS_HISTORY_BYTES."
            )
            raise ContentTooLarge(detail, remedy)
        weight = weigh(drafts, size)
        self._lead.begin(len(drafts), weight)
        positions: list[EventId] = []
        try:
            ids = [draft.id or "" for draft in drafts]
            arguments = chain.from_iterable(zip(ids, texts, strict=True))
            answer = self.client.call_once(self._script("append", *arguments))
            if not answer and drafts:
                raise conflict() if answer is None else topic_ended()
            positions = [parse_position(text) for text in answer]
            events = map_cooperatively(Event, positions, drafts)
        finally:
            self._lead.end(max(positions, default=None), len(drafts), weight)
        for text, event in zip(texts, events, strict=True):
            if self._lead.is_unread(event.position):
                self._own.add(text, event)
        return events

    def remove(self, removal: Removal) -> Removed:
        """Remove events; see `Broker.remove`."""
        return self._remover.remove(removal)

    def follow(self, after: EventId) -> Iterator[Followed]:
        """Yield the events after a position, in order, until the broker is closed."""
        reader, outage = self.client.blocking_reader(_STREAM), Outage(_LONGEST_PAUSE_S)
        at_head = False  # on a new connection, look for a gap before waiting for events
        while not self._closed.is_set():
            self._lead.followed(after)
            self._own.followed(after)
            call = self._read_script(after, check=(_CHECK, *self._turn.report()))
            try:
                page = parse_page(after, reader.call(call, str(after) if at_head else None))
            except Exception as error:  # noqa: BLE001 - whatever the stream contains
                if self._closed.is_set():
                    return
                at_head = False
                self._closed.wait(outage.pause_after(error))
                continue
            outage.over()
            self._clock.note(page.clock)
            at_head = page.end >= page.bounds.head
            if not page.indexed:
                self._index.build()  # removals and expirations are continued, too
            self._turn.followed(page.size, page.unread, beside_singles=page.beside_singles)
            if not page.known:
                gap = page.bounds.gap_after(after)
                after = gap.position
                self._own.clear()
                yield gap
            elif page.lines:
                after = page.end
                entries = decode_events(page.lines, self._take_or_decode)
                yield from followed(hide(entries, page.pending, page.clock))

    def read(self, after: EventId, max_bytes: int) -> list[Event]:
        """Return the next events after a position."""
        return self.read_page(after, max_bytes).events

    def read_page(self, after: EventId, max_bytes: int) -> TopicPage:
        """Return the next events after a position, and how far it has read."""
        while True:
            page = self._read(after, max_bytes=max_bytes)
            if events := page.events:
                return TopicPage(events, page.end, page.bounds)
            if not page.lines:
                return TopicPage([], max(after, page.bounds.head), page.bounds)
            after = page.end  # all entries were damaged, or are no events

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
            events = page.events
            found += events
            limit -= len(events)
            max_bytes -= sum(map(len, page.lines))
        return found[::-1]

    def read_topics(self, after: EventId, max_bytes: int, topics: Sequence[str]) -> TopicPage:
        """Return the next events after a position that have one of some topics."""
        if found := self._index.read_after(after, max_bytes, topics):
            return found
        # The position is where the index ends: it is being built.
        read, wanted = self.read_page(after, max_bytes), {*topics}
        events = [it for it in read.events if not wanted.isdisjoint(it.draft.topics)]
        return read._replace(events=events)

    def before_topics(
        self, position: EventId, limit: int, max_bytes: int, topics: Sequence[str]
    ) -> list[Event]:
        """Return the newest events before a position that have one of some topics."""
        return self._index.read_before(min(position, _LAST), limit, max_bytes, topics)

    def newest(
        self, topics: Sequence[str], before: EventId, *, public: bool
    ) -> list[EventId | None]:
        """Return the position of each topic's newest event before another one."""
        return self._index.newest(topics, min(before, _LAST), public=public)

    def read_at(self, positions: Sequence[EventId], max_bytes: int) -> list[Event]:
        """Return the first of the events at some positions."""
        return self._index.read_at(positions, max_bytes)

    def ends(self, topics: Sequence[str]) -> list[TopicEnd | None]:
        """Return the end of each topic."""
        return self._index.ends(topics)

    def newest_end(self) -> EventId | None:
        """Return the position of the newest event that ended a topic."""
        position = self._call_topics("newest_end")
        return position and parse_position(position)

    def topics(
        self, prefix: str, after: str, limit: int, globs: Sequence[Glob] = ()
    ) -> DirectoryPage:
        """Return the next lines of the directory of topics."""
        return self._index.topics(prefix, after, limit, globs)

    def positions_of(
        self, id: str, after: EventId | None, limit: int, topics: Sequence[str] | None = None
    ) -> list[EventId]:
        """Return the positions of the events with an own id, the oldest first."""
        return self._index.positions_of(id, after, limit, topics)

    def bounds(self) -> Bounds:
        """Return where the event log begins and ends now."""
        return self._read(_LAST, limit=0).bounds

    def count(self) -> int:
        """Return how many events the event log has now."""
        return self._read(_LAST, limit=0).total

    def usage(self) -> Usage:
        """Return where the event log begins and ends, and how much it keeps."""
        *ends, events, size = self._call("usage")
        return Usage(parse_bounds(*ends), events, int(size))

    def position_of(self, id: str) -> EventId | None:
        """Return the position that an id names, or None if the event log does not have it."""
        if position := EventId.parse(id):
            known = max(position) < 2**64 and self._read(position, limit=0, check=(_CHECK,)).known
            return position if known else None
        return next(iter(self._index.positions_of(id, None, 1)), None)

    def now(self) -> int:
        """Return about the time of the server."""
        return self._clock.now()

    def close(self) -> None:
        """Close the connections; `follow` ends."""
        self._closed.set()
        self.client.close()

    def _call(self, verb: str, *arguments: str) -> Any:
        return self.client.call(self._script(verb, *arguments))

    def _call_topics(self, verb: str, *arguments: str) -> Any:
        return self.client.call(ScriptCall(_TOPICS_SCRIPT, [verb, *self._limits, *arguments]))

    def _call_topics_once(self, verb: str, *arguments: str) -> Any:
        return self.client.call_once(ScriptCall(_TOPICS_SCRIPT, [verb, *self._limits, *arguments]))

    def _take_or_decode(self, line: bytes) -> Event:
        return self._own.take(line) or decode_line(line)

    def _script(self, verb: str, *arguments: str) -> ScriptCall:
        return ScriptCall(_SCRIPT, [verb, *self._limits, *arguments])

    def _read(self, position: EventId, command: str = "XRANGE", **limits: Any) -> Page:
        call = self._read_script(position, command, **limits)
        while True:
            page = parse_page(position, self.client.call(call))
            self._clock.note(page.clock)
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
