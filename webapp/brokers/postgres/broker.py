"""The event log of many machines: tables in a PostgreSQL database.

Whatever must be atomic is one call of a function in the database (log.sql), and so one transaction
without a round trip in it. The server assigns the positions under one lock, so all processes see
one order. A new event log begins at a position of the server's time. So a cursor from before the
tables were made again lies below their floor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gevent
from gevent.event import Event as Signal

from ...core.events import Draft, Event, EventId
from ...core.topic_index import DirectoryPage, TopicEntry
from ...errors import BadRequest
from ...scheduling import map_cooperatively
from ..base import Bounds, Removed, TopicEnd, TopicPage, Usage, decode_events, now, stopping
from ..hidden import followed, visible
from ..lead import Lead
from ..outage import Outage
from .append_queue import AppendQueue, make_events, without_doubles
from .database import Channel, Database, ReadChannels
from .listener import Listener
from .relay import Relay
from .rows import decode_row, from_key, parse_page, to_key
from .trimmer import Trimmer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ...core.globs import Glob
    from ...core.removals import Removal
    from ..base import Followed

_LONGEST_PAUSE_S = 3.0  # of a follower, between two tries to reach the server
_LOOKED_AT = 5000  # names, by one call with globs


class PostgresBroker:
    """A database with the newest events, bounded in number, bytes and age.

    :param url: `postgresql://` or `postgres://`, with libpq's options in its query.
    :param max_age: in seconds.
    """

    def __init__(self, url: str, max_events: int, max_bytes: int, max_age: float) -> None:
        self.database = Database(url)
        self._writer = Channel(self.database)
        self.reader = ReadChannels(self.database)
        self._trimmer = Trimmer(self.reader, max_events, max_bytes, max_age)
        self._relay = Relay(self.database, self.reader)
        self._queue = AppendQueue(self._writer, self._trimmer.note)
        self._lead = Lead(max_events, max_bytes)
        self._listeners: set[Listener] = set()
        self.on_notice: Callable[[], None] | None = None
        """Called when there may be a new notice of presence."""
        self._closed = Signal()

    def append(self, drafts: Sequence[Draft]) -> list[Event]:
        """Append all drafts, or none; see `Broker.append`."""
        if self._closed.is_set():
            raise stopping()
        if not drafts:
            return []
        if any(draft.ttl for draft in drafts):
            detail = "The event log in PostgreSQL does not let events expire."
            raise BadRequest(detail, "Leave ttl out, or delete the event later.", reason="ttl")
        texts = map_cooperatively(Draft.to_json, drafts)
        new, texts_of_new, numbers = without_doubles(drafts, texts)
        size = sum(map(len, texts_of_new))
        self._lead.begin(len(new), size)
        positions: list[EventId] = []
        try:
            positions = self._queue.append(new, texts_of_new, size)
        finally:
            self._lead.end(max(positions, default=None), len(new), size)
        return make_events([positions[n] for n in numbers], drafts)

    def remove(self, removal: Removal) -> Removed:
        """Remove events; see `Broker.remove`. Each step is a transaction, and a removal by itself:
        what the next steps remove is still there meanwhile.
        """
        first, last = to_key(removal.first), to_key(removal.last)
        number, position, rest = 0, None, first
        while rest is not None:
            values = removal.topic, rest, last
            [(removed, entry, rest, last)] = self.reader.call(*_call_of("remove", values))
            number += removed
            position = position if entry is None else from_key(entry)
        return Removed(number, position)

    def follow(self, after: EventId) -> Iterator[Followed]:
        """Yield the events after a position, in order, until the broker is closed."""
        listener, outage = Listener(self.database, self._note_notice), Outage(_LONGEST_PAUSE_S)
        self._listeners.add(listener)
        self._trimmer.start()
        self._relay.start()
        at_head = False
        try:
            while not self._closed.is_set():
                self._lead.followed(after)
                try:
                    page = listener.read(after, wait=at_head)
                    entries = page.entries
                except Exception as error:  # noqa: BLE001 - whatever the database contains
                    if self._closed.is_set():
                        return
                    at_head = False
                    self._closed.wait(outage.pause_after(error))
                    continue
                outage.over()
                at_head = not page.rows
                if not page.known:
                    gap = page.bounds.gap_after(after)
                    after = gap.position
                    yield gap
                elif page.rows:
                    after = from_key(page.rows[-1][0])
                    yield from followed(entries)
                    gevent.sleep(0)  # pages that are ready at once would never yield
        finally:
            self._listeners.discard(listener)
            listener.close()

    def read(self, after: EventId, max_bytes: int) -> list[Event]:
        """Return the next events after a position."""
        return self.read_page(after, max_bytes).events

    def read_page(self, after: EventId, max_bytes: int) -> TopicPage:
        """Return the next events after a position, and the bounds of that moment."""
        found: list[Event] = []
        while True:
            page = parse_page(self._rows("read_after", to_key(after), max_bytes))
            # Events that were trimmed between two steps would be missing in between.
            if found and page.bounds.floor > after:
                return TopicPage(found, after, page.bounds)
            events = page.events
            found += events
            max_bytes -= sum(it.wire_bytes for it in events)
            if not page.rows:
                return TopicPage(found, max(after, page.bounds.head), page.bounds)
            after = from_key(page.rows[-1][0])
            if max_bytes <= 0:
                return TopicPage(found, after, page.bounds)

    def before(self, position: EventId, limit: int, max_bytes: int) -> list[Event]:
        """Return the newest events before a position, in the event log's order."""
        return self._read_back("read_before", position, limit, max_bytes)

    def read_topics(self, after: EventId, max_bytes: int, topics: Sequence[str]) -> TopicPage:
        """Return the next events after a position that have one of some topics."""
        page = parse_page(self._rows("read_topics", to_key(after), max_bytes, list(topics)))
        return TopicPage(page.events, page.upto, page.bounds)

    def before_topics(
        self, position: EventId, limit: int, max_bytes: int, topics: Sequence[str]
    ) -> list[Event]:
        """Return the newest events before a position that have one of some topics."""
        return self._read_back("before_topics", position, limit, max_bytes, list(topics))

    def newest(
        self, topics: Sequence[str], before: EventId, *, public: bool
    ) -> list[EventId | None]:
        """Return the position of each topic's newest event before another one."""
        [(keys,)] = self._rows("newest", list(topics), to_key(before), public)
        return [None if key is None else from_key(key) for key in keys]

    def read_at(self, positions: Sequence[EventId], max_bytes: int) -> list[Event]:
        """Return the first of the events at some positions, in the event log's order."""
        wanted = sorted({to_key(it) for it in positions})
        found: list[Event] = []
        while wanted and not found:  # a page may have damaged events only
            rows = self._rows("read_at", wanted, max_bytes)
            found = decode_events(rows, decode_row)
            wanted = [key for key in wanted if rows and key > rows[-1][0]]
        return found

    def ends(self, topics: Sequence[str]) -> list[TopicEnd | None]:
        """Return the end of each topic."""
        rows = self._rows("ends", list(topics))
        return [TopicEnd(from_key(key), private) if key else None for key, private in rows]

    def newest_end(self) -> EventId | None:
        """Return the position of the newest event that ended a topic."""
        [(key,)] = self._rows("newest_end")
        return from_key(key) if key else None

    def topics(
        self, prefix: str, after: str, limit: int, globs: Sequence[Glob] = ()
    ) -> DirectoryPage:
        """Return the next lines of the directory of topics."""
        patterns = [_to_like(it) for it in globs] or None
        looked_at = _LOOKED_AT if globs else limit
        (upto, *_), *lines = self._rows("topics", prefix, after, limit, looked_at, patterns)
        return DirectoryPage([_to_entry(*it) for it in lines], upto)

    def positions_of(
        self, id: str, after: EventId | None, limit: int, topics: Sequence[str] | None = None
    ) -> list[EventId]:
        """Return the positions of the events with a custom id, the oldest first."""
        start = to_key(after) if after else -1
        names = None if topics is None else list(topics)
        [(keys,)] = self._rows("positions_of", id, start, limit, names)
        return list(map(from_key, keys))

    def bounds(self) -> Bounds:
        """Return where the event log begins and ends now."""
        return self.usage().bounds

    def count(self) -> int:
        """Return how many events the event log has now."""
        return self.usage().events

    def usage(self) -> Usage:
        """Return where the event log begins and ends, and how much it keeps."""
        [row] = self.reader.call("SELECT floor, position, events, bytes FROM tidings.head", tries=2)
        return Usage(Bounds(*map(from_key, row[:2])), *row[2:])

    def position_of(self, id: str) -> EventId | None:
        """Return the position that an id names, or None if the event log does not have it."""
        if position := EventId.parse(id):
            key = to_key(position)
            if from_key(key) != position:
                return None
            [(*_, known)] = self._rows("bounds", key)
            return position if known else None
        return next(iter(self.positions_of(id, None, 1)), None)

    def now(self) -> int:
        """Return the time of this machine."""
        return now()

    def close(self) -> None:
        """Close the connections; `follow` ends."""
        self._closed.set()
        for listener in self._listeners:
            listener.wake()
        self._trimmer.stop()
        self._relay.stop()
        self._writer.close()
        self.reader.close()

    def _rows(self, function: str, *values: Any) -> list[Any]:
        return self.reader.call(*_call_of(function, values), tries=2)

    def _read_back(
        self, function: str, position: EventId, limit: int, max_bytes: int, *values: Any
    ) -> list[Event]:
        found: list[Event] = []
        while limit > 0 and max_bytes > 0:
            rows = self._rows(function, to_key(position), limit, max_bytes, *values)
            if not rows:
                break
            events = visible(decode_events(rows, decode_row))
            found[:0] = events
            position = from_key(rows[0][0])
            limit -= len(events)
            max_bytes -= sum(it.wire_bytes for it in events)
        return found

    def _note_notice(self) -> None:
        if self.on_notice:
            self.on_notice()


def _call_of(function: str, values: Sequence[Any]) -> tuple[str, Sequence[Any]]:
    """Return a statement that calls a function of the schema, and its values."""
    types = _TYPES[function]
    marks = ", ".join(f"%s::{it}" for it in types)
    return f"SELECT * FROM tidings.{function}({marks})", values  # noqa: S608 - names in this file


_TYPES = {
    "before_topics": ("bigint", "integer", "bigint", "text[]"),
    "bounds": ("bigint",),
    "ends": ("text[]",),
    "newest_end": (),
    "newest": ("text[]", "bigint", "boolean"),
    "remove": ("text", "bigint", "bigint"),
    "positions_of": ("text", "bigint", "integer", "text[]"),
    "read_after": ("bigint", "bigint"),
    "read_at": ("bigint[]", "bigint"),
    "read_before": ("bigint", "integer", "bigint"),
    "read_topics": ("bigint", "bigint", "text[]"),
    "topics": ("text", "text", "integer", "integer", "text[]"),
}


def _to_like(glob: Glob) -> str:
    return "%".join(it.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") for it in glob)


def _to_entry(
    name: str, newest: int, events: int, public_newest: int | None, public_events: int
) -> TopicEntry:
    public = from_key(public_newest) if public_newest else None
    return TopicEntry(name, from_key(newest), events, public, public_events)
