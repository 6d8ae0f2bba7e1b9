"""The event log of one machine: an SQLite file that any number of processes share.

SQLite blocks, so it runs in threads: one commits, a few read. Only small commits that will not
wait run on the event loop.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import gevent
from gevent.event import Event as Signal

from ...backoff import jitter
from ...core.events import EventId
from ...errors import ServiceUnavailable
from ...tasks import lasting
from ..backlog import Backlog
from ..base import Gap, now, stopping
from ..hidden import followed
from ..outage import Outage
from . import own_ids, topic_ends
from .directory import Directory
from .expiration_steps import ExpirationSteps
from .follower import FollowerQueue, frame_bytes
from .group_commit import GroupCommitter
from .indexer import Indexer
from .log_table import LogTable
from .page_reader import PageReader
from .removal_steps import RemovalSteps
from .remover import Remover
from .threads import SqliteThreads
from .topic_index import TopicIndex
from .turn import SINGLES, SqliteTurn
from .wakeup import WakeupSocket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ...core.events import Draft, Event
    from ...core.globs import Glob
    from ...core.removals import Removal
    from ...core.topic_index import DirectoryPage
    from ..base import Bounds, Followed, Removed, TopicEnd, TopicPage, Usage

T = TypeVar("T")

_READER_THREADS = 3
_MAX_BACKLOG_BYTES = 8 << 20  # how far publishers may be ahead of the followers
_MANY_TOPICS = 100  # in one call, which is probably not the only one
_READ_BYTES = 1 << 20  # what a follower reads at once: a busy loop delays each read by a while
_TICK_S = 1.0  # after so long without an event, a follower reads the file
_MAX_TRIM_INTERVAL_S = 60.0
_LONGEST_PAUSE_S = 5.0  # of a follower, between two tries to read the file


class SqliteBroker:
    """A file with the newest events, bounded in number, bytes and age.

    :param max_age: in seconds.
    """

    def __init__(self, path: Path, max_events: int, max_bytes: int, max_age: float) -> None:
        self._path = path
        self._table = LogTable(path, max_events, max_bytes, max_age)
        database = self._table.database
        self._pages, self._directory = PageReader(self._table, self._read), Directory(database)
        self._remover = Remover(
            RemovalSteps(self._table),
            ExpirationSteps(database),
            self._read,
            self._write,
            self._on_removal,
        )
        self._indexer = Indexer(TopicIndex(database), self._read, self._write)
        self._trim_interval = min(_MAX_TRIM_INTERVAL_S, max_age / 10)
        self._writer, self._readers = SqliteThreads(1), SqliteThreads(_READER_THREADS)
        self._turn = SqliteTurn()
        self._backlog = Backlog(_MAX_BACKLOG_BYTES, self._turn)
        self._committer = GroupCommitter(
            self._table, self._write, self._on_commit, self._on_events, self._backlog
        )
        self._over_limit = Signal()
        self._tasks: list[gevent.Greenlet[[], None]] = []
        self._wakeups: WakeupSocket | None = None
        self._followers: set[FollowerQueue] = set()
        self._closed = False

    def append(self, drafts: Sequence[Draft]) -> list[Event]:
        """Append all drafts, or none; see `Broker.append`."""
        if self._closed:
            raise stopping()
        return self._committer.append(drafts)

    def remove(self, removal: Removal) -> Removed:
        """Remove events; see `Broker.remove`."""
        return self._remover.remove(removal)

    def follow(self, after: EventId) -> Iterator[Followed]:
        """Yield the events after a position, in order, until the broker is closed."""
        queue, outage = FollowerQueue(after, self._backlog), Outage(_LONGEST_PAUSE_S)
        self._followers.add(queue)
        try:
            while not self._closed:
                if queued := queue.take():
                    yield queued
                elif not queue.must_read:
                    queue.wait()
                elif found := self._read_next(queue, outage):
                    yield from [found] if isinstance(found, Gap) else followed(found)
        finally:
            self._followers.discard(queue)
            queue.close()

    def read(self, after: EventId, max_bytes: int) -> list[Event]:
        """Return the next events after a position."""
        return self.read_page(after, max_bytes).events

    def read_page(self, after: EventId, max_bytes: int) -> TopicPage:
        """Return a page of the events after a position, and how far it goes."""
        return self._pages.after(after, max_bytes)

    def before(self, position: EventId, limit: int, max_bytes: int) -> list[Event]:
        """Return the newest events before a position, in the event log's order."""
        return self._pages.before(position, limit, max_bytes)

    def read_topics(self, after: EventId, max_bytes: int, topics: Sequence[str]) -> TopicPage:
        """Return a page of the events after a position that have one of some topics."""
        return self._pages.after_with(after, max_bytes, topics)

    def before_topics(
        self, position: EventId, limit: int, max_bytes: int, topics: Sequence[str]
    ) -> list[Event]:
        """Return the newest events before a position that have one of some topics."""
        return self._pages.before_with(position, limit, max_bytes, topics)

    def newest(
        self, topics: Sequence[str], before: EventId, *, public: bool
    ) -> list[EventId | None]:
        """Return the position of each topic's newest event before another one."""
        if len(topics) >= _MANY_TOPICS:
            self._indexer.catch_up()
        return self._remover.read(partial(self._directory.newest, topics, before, public=public))

    def read_at(self, positions: Sequence[EventId], max_bytes: int) -> list[Event]:
        """Return the first of the events at some positions, in the event log's order."""
        return self._pages.at(positions, max_bytes)

    def ends(self, topics: Sequence[str]) -> list[TopicEnd | None]:
        """Return the end of each topic."""
        return self._read(topic_ends.find, self._table.database, topics)

    def newest_end(self) -> EventId | None:
        """Return the position of the newest event that ended a topic."""
        return self._read(topic_ends.newest, self._table.database)

    def topics(
        self, prefix: str, after: str, limit: int, globs: Sequence[Glob] = ()
    ) -> DirectoryPage:
        """Return the next lines of the directory of topics."""
        self._indexer.catch_up()
        return self._remover.read(self._directory.page, prefix, after, limit, globs)

    def positions_of(
        self, id: str, after: EventId | None, limit: int, topics: Sequence[str] | None = None
    ) -> list[EventId]:
        """Return the positions of the events with an own id, the oldest first."""
        database = self._table.database
        return self._read(own_ids.positions_of, database, id, after, limit, topics)

    def bounds(self) -> Bounds:
        """Return where the event log begins and ends now."""
        return self._read(self._table.bounds)

    def count(self) -> int:
        """Return how many events the event log has now."""
        return self._read(self._table.count)

    def usage(self) -> Usage:
        """Return where the event log begins and ends, and how much it keeps."""
        return self._read(self._table.usage)

    def position_of(self, id: str) -> EventId | None:
        """Return the position that an id names, or None if the event log does not have it."""
        if position := EventId.parse(id):
            return position if self._read(self._table.has, position) else None
        return next(iter(self.positions_of(id, None, 1)), None)

    def now(self) -> int:
        """Return the time of this machine."""
        return now()

    def close(self) -> None:
        """End `follow`, and close the file when the calls that run have ended."""
        if self._closed:
            return
        self._closed = True
        self._writer.stopped = self._readers.stopped = True
        if self._wakeups:
            self._wakeups.close()
        gevent.killall(self._tasks, block=False)
        self._mark_all_stale()
        self._readers.close(self._table.close)
        self._writer.close()

    def _read(self, function: Callable[..., T], *values: Any) -> T:
        return self._call(self._readers, function, *values)

    def _write(self, function: Callable[..., T], *values: Any) -> T:
        return self._call(self._writer, function, *values)

    def _call(self, threads: SqliteThreads, function: Callable[..., T], *values: Any) -> T:
        result = threads.call(function, *values)
        if not self._wakeups and not self._closed:  # the file has its folder since the first call
            self._wakeups = WakeupSocket(Path(f"{self._path}.wake"), self._on_wakeup)
            self._turn.wakeups = self._wakeups
            self._tasks = [
                lasting("trim", self._trim),
                lasting("tick", self._tick),
                lasting("index", self._indexer.run),
                lasting("remove", self._remover.run),
            ]
            self._mark_all_stale()
        return result

    def _on_wakeup(self, message: bytes) -> None:
        """Do what another process asks for: read the file, or wait for its followers or for the
        single events that come to it.
        """
        if message.isdigit():
            self._backlog.report(int(message))
        elif message == SINGLES:
            self._backlog.note_singles_elsewhere()
        else:
            self._mark_all_stale()

    def _mark_all_stale(self) -> None:
        for queue in self._followers:
            queue.mark_stale()

    def _on_removal(self) -> None:
        self._mark_all_stale()
        if self._wakeups:
            self._wakeups.notify()

    def _on_commit(self, after: EventId) -> None:
        for queue in self._followers:
            queue.expect(after)
        if self._wakeups:
            self._wakeups.notify()

    def _on_events(self, after: EventId, events: list[Event], over_limit: bool) -> None:  # noqa: FBT001 - its name says what it is
        size = frame_bytes(events)
        for queue in self._followers:
            queue.push(after, events, size)
        self._indexer.note(len(events), size)
        if over_limit:
            self._over_limit.set()

    def _tick(self) -> None:
        while True:
            gevent.sleep(_TICK_S)
            for queue in self._followers:
                queue.tick()

    def _trim(self) -> None:
        # Its steps alternate with commits, and delete more than those add.
        while True:
            self._over_limit.wait(self._trim_interval * jitter(0.5, 1))
            self._over_limit.clear()
            with suppress(ServiceUnavailable):  # the follower logs it
                while self._write(self._table.trim):
                    pass
                self._remover.expire()

    def _read_next(self, queue: FollowerQueue, outage: Outage) -> list[Event] | Gap | None:
        """Return what follows in the file. If it cannot be read, wait a little."""
        queue.begin_reading()
        try:
            page, bounds, known, unread = self._read(self._table.after, queue.position, _READ_BYTES)
            events = page.entries
        except Exception as error:  # noqa: BLE001 - whatever the file contains
            gevent.sleep(outage.pause_after(error))
            return None
        finally:
            queue.end_reading()
        outage.over()
        if not known:
            gap = bounds.gap_after(queue.position)
            queue.position = gap.position
            return gap
        queue.note_page(events, page.end, unread)
        if queue.behind > self._backlog.limit_for_large and self._wakeups:
            self._wakeups.notify(b"%d" % queue.behind)
        return events
