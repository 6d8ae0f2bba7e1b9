"""The log of one machine: an SQLite file that any number of processes share.

SQLite blocks, so it runs in threads of its own: one commits, a few read. Only what is small and
would not wait is committed without a thread.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import uniform
from typing import TYPE_CHECKING, Any, TypeVar, cast

import gevent
from gevent.event import Event as Signal
from gevent.threadpool import ThreadPool

from ...core.events import Draft, Event, EventId
from ...errors import ServiceUnavailable, TidingsError
from ...scheduling import cooperative
from ...tasks import lasting, skip
from ..base import Gap
from .follower import PAGE_BYTES, FollowerQueue, Outage, size
from .group_commit import GroupCommitter
from .log_table import LogTable
from .rows import decode_row
from .wakeup import WakeupSocket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..base import Bounds

T = TypeVar("T")

logger = logging.getLogger(__name__)

_READERS = 3
_TICK = 1.0  # seconds: a follower that was handed nothing for so long looks by itself
_TRIM = 60.0  # seconds between looks for what is too old


class SqliteBroker:
    """A log file that keeps the newest events, bounded in number, bytes and age.

    :param max_age: in seconds.
    """

    def __init__(self, path: Path, max_events: int, max_bytes: int, max_age: float) -> None:
        self._path = path
        self._file = LogTable(path, max_events, max_bytes, max_age)
        self._look_for_old = min(_TRIM, max_age / 10)
        self._writer, self._readers = ThreadPool(1), ThreadPool(_READERS)
        self._commits = GroupCommitter(
            self._file, partial(self._ask, pool=self._writer), self._hand_on
        )
        self._overfull = Signal()
        self._tasks: list[gevent.Greenlet[[], None]] = []
        self._bell: WakeupSocket | None = None
        self._tails: set[FollowerQueue] = set()
        self._closed = False

    def append(self, drafts: Sequence[Draft]) -> list[Event]:
        """Put all drafts in the log, or none; see `Broker.append`."""
        if self._closed:
            raise _closed()
        return self._commits.append(drafts)

    def follow(self, after: EventId) -> Iterator[list[Event] | Gap]:
        """Yield what comes after a place, in order, until the broker is closed."""
        tail, outage = FollowerQueue(after), Outage()
        self._tails.add(tail)
        try:
            while not self._closed:
                try:
                    found = tail.handed() or (self._look(tail) if tail.stale else None)
                except Exception as error:  # noqa: BLE001 - whatever lies in the file
                    if not isinstance(error, TidingsError):
                        skip("log", error)
                    gevent.sleep(outage.pause(error))
                    continue
                outage.over()
                if found:
                    yield found
                elif not tail.stale:
                    tail.wait()
        finally:
            self._tails.discard(tail)

    def read(self, after: EventId, max_bytes: int) -> list[Event]:
        """Return a page of the events after a place."""
        found: list[Event] = []
        while max_bytes > 0:
            page, bounds, _ = self._ask(self._file.after, after, max_bytes)
            # What was trimmed between two steps would be a hole in the page.
            if not page.end or (found and bounds.floor > after):
                break
            events = _events(page.rows)
            found += events
            max_bytes -= size(events)
            after = page.end
        return found

    def before(self, position: EventId, limit: int, max_bytes: int) -> list[Event]:
        """Return the newest events before a place, in the log's order."""
        found: list[Event] = []
        while len(found) < limit and max_bytes > 0:
            page = self._ask(self._file.before, position, limit - len(found), max_bytes)
            if not page.end:
                break
            events = _events(page.rows)
            found[:0] = events
            max_bytes -= size(events)
            position = page.end
        return found

    def bounds(self) -> Bounds:
        """Return where the log begins and ends now."""
        return self._ask(self._file.bounds)

    def count(self) -> int:
        """Return how many events the log keeps now."""
        return self._ask(self._file.count)

    def position_of(self, id: str) -> EventId | None:
        """Return the place that an id names, or None where the log does not hold it."""
        return self._ask(self._file.position_of, id)

    def close(self) -> None:
        """End `follow`, and let go of the file as soon as nobody uses it."""
        if self._closed:
            return
        self._closed = True
        if self._bell:
            self._bell.close()
        gevent.killall(self._tasks, block=False)
        self._stir()
        self._readers.apply(self._file.close)
        for pool in (self._writer, self._readers):
            pool.kill()

    # In threads

    def _ask(self, function: Callable[..., T], *values: Any, pool: ThreadPool | None = None) -> T:
        """Run what blocks in a thread.

        :raises Unavailable: the log cannot be reached.
        """
        if self._closed:
            raise _closed()
        answer, error = (pool or self._readers).apply(_tried, (function, *values))
        if error:
            raise error
        if not self._bell and not self._closed:
            self._wake_up()
        return cast(T, answer)

    def _wake_up(self) -> None:
        # Only now: the file has its folder, and may be used.
        self._bell = WakeupSocket(Path(f"{self._path}.wake"), self._stir)
        self._tasks = [lasting("trim", self._trim), lasting("tick", self._tick)]
        self._stir()

    def _stir(self) -> None:
        for tail in self._tails:
            tail.look()

    def _hand_on(self, after: EventId, events: list[Event], over: bool) -> None:  # noqa: FBT001 - said by its name
        """Let all followers know what was committed after a place."""
        if events:
            for tail in self._tails:
                tail.push(after, events)
            if self._bell:
                self._bell.ring()
        if over:
            self._overfull.set()

    def _tick(self) -> None:
        while True:
            gevent.sleep(_TICK)
            for tail in self._tails:
                tail.tick()

    def _trim(self) -> None:
        # Its steps take turns with the commits, and drop more than those add.
        while True:
            self._overfull.wait(self._look_for_old * uniform(0.5, 1))  # noqa: S311 - no secret
            self._overfull.clear()
            with suppress(ServiceUnavailable):  # the follower tells
                while self._ask(self._file.trim, pool=self._writer):
                    pass

    def _look(self, tail: FollowerQueue) -> list[Event] | Gap | None:
        """Return what the file has for a follower."""
        looks = tail.looks
        page, bounds, known = self._ask(self._file.after, tail.position, PAGE_BYTES)
        if not known:
            aged = bounds.floor > tail.position
            gap = Gap(bounds.floor, "aged") if aged else Gap(bounds.head, "unknown")
            tail.position = gap.position
            return gap
        if page.end:
            tail.position = page.end
        elif tail.looks == looks:
            tail.stale = False
        return _events(page.rows)


def _tried(function: Callable[..., T], *values: Any) -> tuple[T | None, Exception | None]:
    # gevent prints what is raised in its threads.
    try:
        return function(*values), None
    except Exception as error:  # noqa: BLE001 - it is raised where the answer is waited for
        return None, error


def _events(rows: list[str]) -> list[Event]:
    found = list[Event]()
    for row in cooperative(rows):
        try:
            position, text = decode_row(row)
            found.append(Event(position, Draft.from_json(text)))
        except Exception as error:  # noqa: BLE001 - subscribers go on without it
            skip("log", error)
    return found


def _closed() -> ServiceUnavailable:
    return ServiceUnavailable("The hub is stopping.", "Come back in a moment.", reason="drain")
