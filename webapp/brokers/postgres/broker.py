"""The event log of many machines: tables in a PostgreSQL database.

Whatever must be atomic is one call of a function in the database (log.sql), and so one transaction
without a round trip in it. The server assigns the positions under one lock, so all processes see
one order. A new event log begins at a position of the server's time. So a cursor from before the
tables were made again lies below their floor.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import gevent
from gevent.event import Event as Signal

from ...core.events import Draft, Event, EventId
from ...scheduling import map_cooperatively
from ..base import Bounds, RefusedEvent, TopicPage, Usage, decode_events, stopping
from ..hidden import followed
from ..lead import Lead, weigh
from ..outage import Outage
from ..server_clock import ServerClock
from .append_queue import AppendQueue, make_events, without_doubles
from .database import Channel, Database, ReadChannels
from .functions import Functions
from .listener import Listener
from .relay import Relay
from .remover import Remover
from .rows import decode_row, from_key, parse_page, shown, to_key
from .topic_index import PostgresTopicIndex
from .trimmer import Trimmer
from .turn import PostgresTurn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ...core.globs import Glob
    from ...core.removals import Removal
    from ...core.topic_index import DirectoryPage
    from ..base import Followed, Removed, TopicEnd
    from .rows import Row

_MAX_REFUSED = 20  # that are listed
_LONGEST_PAUSE_S = 3.0  # of a follower, between two tries to reach the server


class PostgresBroker:
    """A database with the newest events, bounded in number, bytes and age.

    :param url: `postgresql://` or `postgres://`, with libpq's options in its query.
    :param max_age: in seconds.
    """

    def __init__(self, url: str, max_events: int, max_bytes: int, max_age: float) -> None:
        self.database = Database(url)
        self._writer = Channel(self.database)
        self.reader = ReadChannels(self.database)
        self._functions = Functions(self.reader)
        self._index = PostgresTopicIndex(self._functions)
        self._remover = Remover(self._functions)
        self._clock = ServerClock()
        settle = self._remover.settle
        self._trimmer = Trimmer(self.reader, settle, max_events, max_bytes, max_age)
        self._relay = Relay(self.database, self.reader)
        self._queue = AppendQueue(self._writer, self._trimmer.note)
        self._turn = PostgresTurn(self._functions)
        self._lead = Lead(max_events, max_bytes, self._turn)
        self._turn.backlog = self._lead.backlog
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
        texts = map_cooperatively(Draft.content, drafts)
        new, texts_of_new, numbers = without_doubles(drafts, texts)
        size = sum(map(len, texts_of_new))
        weight = weigh(new, size)
        self._lead.begin(len(new), weight)
        positions: list[EventId] = []
        try:
            positions = self._queue.append(new, texts_of_new, size)
        finally:
            self._lead.end(max(positions, default=None), len(new), weight)
        return make_events([positions[n] for n in numbers], drafts)

    def remove(self, removal: Removal) -> Removed:
        """Remove events; see `Broker.remove`."""
        return self._remover.remove(removal)

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
                    self._clock.note(page.clock)
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
            page = parse_page(self._functions.rows("read_after", to_key(after), max_bytes))
            self._clock.note(page.clock)
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
        read = partial(self._functions.rows, "read_before")
        return _read_back(read, position, limit, max_bytes)

    def read_topics(self, after: EventId, max_bytes: int, topics: Sequence[str]) -> TopicPage:
        """Return the next events after a position that have one of some topics."""
        return self._index.read_topics(after, max_bytes, topics)

    def before_topics(
        self, position: EventId, limit: int, max_bytes: int, topics: Sequence[str]
    ) -> list[Event]:
        """Return the newest events before a position that have one of some topics."""
        read = partial(self._index.rows_before, topics)
        return _read_back(read, position, limit, max_bytes)

    def newest(
        self, topics: Sequence[str], before: EventId, *, public: bool
    ) -> list[EventId | None]:
        """Return the position of each topic's newest event before another one."""
        return self._index.newest(topics, before, public=public)

    def read_at(self, positions: Sequence[EventId], max_bytes: int) -> list[Event]:
        """Return the first of the events at some positions, in the event log's order."""
        wanted = sorted({to_key(it) for it in positions})
        found: list[Event] = []
        while wanted and not found:  # a page may have damaged events only
            rows = self._functions.rows("read_at", wanted, max_bytes)
            found = decode_events(rows, decode_row)
            wanted = [key for key in wanted if rows and key > rows[-1][0]]
        return found

    def ends(self, topics: Sequence[str]) -> list[TopicEnd | None]:
        """Return the end of each topic."""
        return self._index.ends(topics)

    def newest_end(self) -> EventId | None:
        """Return the position of the newest event that ended a topic."""
        return self._index.newest_end()

    def topics(
        self, prefix: str, after: str, limit: int, globs: Sequence[Glob] = ()
    ) -> DirectoryPage:
        """Return the next lines of the directory of topics."""
        return self._index.topics(prefix, after, limit, globs)

    def positions_of(
        self, id: str, after: EventId | None, limit: int, topics: Sequence[str] | None = None
    ) -> list[EventId]:
        """Return the positions of the events with an own id, the oldest first."""
        start = to_key(after) if after else -1
        names = None if topics is None else list(topics)
        [(keys,)] = self._functions.rows("positions_of", id, start, limit, names)
        return list(map(from_key, keys))

    def bounds(self) -> Bounds:
        """Return where the event log begins and ends now."""
        return self.usage().bounds

    def count(self) -> int:
        """Return how many events the event log has now."""
        return self.usage().events

    def usage(self) -> Usage:
        """Return where the event log begins and ends, and how much it keeps."""
        [(floor, head, events, size, refused)] = self._functions.rows("usage", _MAX_REFUSED)
        bounds = Bounds(from_key(floor), from_key(head))
        return Usage(bounds, events, size, tuple(RefusedEvent(*it) for it in refused or ()))

    def position_of(self, id: str) -> EventId | None:
        """Return the position that an id names, or None if the event log does not have it."""
        if position := EventId.parse(id):
            key = to_key(position)
            if from_key(key) != position:
                return None
            [(*_, known)] = self._functions.rows("bounds", key)
            return position if known else None
        return next(iter(self.positions_of(id, None, 1)), None)

    def now(self) -> int:
        """Return about the time of the server."""
        return self._clock.now()

    def close(self) -> None:
        """Close the connections; `follow` ends."""
        self._closed.set()
        for listener in self._listeners:
            listener.wake()
        self._trimmer.stop()
        self._relay.stop()
        self._writer.close()
        self.reader.close()

    def _note_notice(self) -> None:
        if self.on_notice:
            self.on_notice()


def _read_back(
    read: Callable[..., list[Row]], position: EventId, limit: int, max_bytes: int
) -> list[Event]:
    """Return the newest events before a position that a function reads in pages."""
    found: list[Event] = []
    while limit > 0 and max_bytes > 0:
        rows = read(to_key(position), limit, max_bytes)
        if not rows:
            break
        events = shown(decode_events(rows, decode_row))
        found[:0] = events
        position = from_key(rows[0][0])
        limit -= len(events)
        max_bytes -= sum(it.wire_bytes for it in events)
    return found
