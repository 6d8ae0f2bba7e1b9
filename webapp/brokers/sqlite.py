"""The log of one machine: an SQLite file that any number of processes share.

Answered means committed, and what concurrent publishers offer shares a transaction. SQLite blocks,
so it runs in threads of its own: one commits, a few read.
"""

from __future__ import annotations

import logging
from collections import deque
from contextlib import suppress
from pathlib import Path
from random import uniform
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import gevent
from gevent.event import AsyncResult
from gevent.event import Event as Signal
from gevent.threadpool import ThreadPool

from webapp.brokers.base import Gap, conflict
from webapp.brokers.logfile import LogFile, packed, unpacked
from webapp.brokers.tail import PAGE_BYTES, Outage, Tail, size
from webapp.brokers.wake import Bell
from webapp.errors import Invalid, TidingsError, Unavailable
from webapp.events import Draft, Event, EventId
from webapp.pace import Pace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from webapp.brokers.base import Bounds
    from webapp.brokers.logfile import Appended, Row

T = TypeVar("T")

log = logging.getLogger(__name__)

_READERS = 3
_PATIENCE = 20  # seconds that a publisher waits; SQLite's own may pass three times before
_WAITING = 32 << 20  # bytes that publishers may have waiting
_COMMITTED, _COMMITTED_ROWS = 2 << 20, 1000  # bytes and rows in one transaction, or one offer
_LINGER = 1.0  # seconds without an offer: to end and begin anew costs a third of a commit
_TRIM = 60.0  # seconds between looks for what is too old


class Offer(NamedTuple):
    """Drafts that a publisher waits for."""

    drafts: Sequence[Draft]
    rows: list[Row]
    size: int
    answer: AsyncResult[list[Event]]


class SqliteBroker:
    """A log file that keeps the newest events, bounded in number, bytes and age.

    :param max_age: in seconds.
    """

    def __init__(self, path: Path, max_events: int, max_bytes: int, max_age: float) -> None:
        self._path = path
        self._file = LogFile(path, max_events, max_bytes, max_age)
        self._look_for_old = min(_TRIM, max_age / 10)
        self._writer, self._readers = ThreadPool(1), ThreadPool(_READERS)
        self._offers: deque[Offer] = deque()
        self._waiting = 0  # bytes of the offers
        self._room, self._overfull, self._offered = Signal(), Signal(), Signal()
        self._committer: gevent.Greenlet[[], None] | None = None
        self._trimmer: gevent.Greenlet[[], None] | None = None
        self._bell: Bell | None = None
        self._tails: set[Tail] = set()
        self._closed = False

    def append(self, drafts: Sequence[Draft]) -> list[Event]:
        """Put all drafts in the log, or none; see `Broker.append`."""
        rows = list(_paced(map(packed, drafts)))
        offer = Offer(drafts, rows, sum(row.size for row in rows), AsyncResult())
        self._admit(offer, until := monotonic() + _PATIENCE)
        # A greenlet as long as there is much to do: one that fails takes no other with it.
        if not self._committer:
            self._committer = gevent.spawn(self._commit_all)
        offer.answer.wait(until - monotonic())
        if not offer.answer.ready():
            raise _overdue()
        return cast(list[Event], offer.answer.get())

    def follow(self, after: EventId) -> Iterator[list[Event] | Gap]:
        """Yield what comes after a place, in order, until the broker is closed."""
        tail, outage = Tail(after), Outage()
        self._tails.add(tail)
        try:
            while not self._closed:
                try:
                    found = tail.handed() or (self._look(tail) if tail.stale else None)
                except TidingsError as error:
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

    def before(self, place: EventId, limit: int, max_bytes: int) -> list[Event]:
        """Return the newest events before a place, in the log's order."""
        found: list[Event] = []
        while len(found) < limit and max_bytes > 0:
            page = self._ask(self._file.before, place, limit - len(found), max_bytes)
            if not page.end:
                break
            events = _events(page.rows)
            found[:0] = events
            max_bytes -= size(events)
            place = page.end
        return found

    def bounds(self) -> Bounds:
        """Return where the log begins and ends now."""
        return self._ask(self._file.bounds)

    def locate(self, id: str) -> EventId | None:
        """Return the place that an id names, or None where the log does not hold it."""
        return self._ask(self._file.locate, id)

    def close(self) -> None:
        """End `follow`, and let go of the file as soon as nobody uses it."""
        if self._closed:
            return
        self._closed = True
        if self._bell:
            self._bell.close()
        if self._trimmer:
            self._trimmer.kill(block=False)
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
        self._bell = Bell(Path(f"{self._path}.wake"), self._stir)
        self._trimmer = gevent.spawn(self._trim)
        self._stir()

    def _stir(self) -> None:
        for tail in self._tails:
            tail.look()

    # Committing

    def _admit(self, offer: Offer, until: float) -> None:
        while self._waiting and self._waiting + offer.size > _WAITING:
            self._room.clear()
            if not self._room.wait(until - monotonic()):
                raise _overdue()
        self._waiting += offer.size
        self._offers.append(offer)
        self._offered.set()

    def _commit_all(self) -> None:
        while self._offers or self._offered.wait(_LINGER) or self._offers:
            self._offered.clear()
            offers = self._gathered()
            try:
                appended = self._ask(self._file.append, [o.rows for o in offers], pool=self._writer)
            except TidingsError as error:
                for offer in offers:
                    offer.answer.set_exception(error)
            else:
                self._settle(offers, appended)

    def _gathered(self) -> list[Offer]:
        offers, rows, size = [], 0, 0
        while self._offers and rows < _COMMITTED_ROWS and size < _COMMITTED:
            offer = self._offers.popleft()
            offers.append(offer)
            rows += len(offer.rows)
            size += offer.size
        self._waiting -= size
        self._room.set()
        return offers

    def _settle(self, offers: list[Offer], appended: Appended) -> None:
        new, head = list[Event](), appended.after
        for offer, places in zip(offers, appended.places, strict=True):
            if places is None:
                offer.answer.set_exception(conflict())
                continue
            events = list(_paced(map(Event, places, offer.drafts)))
            offer.answer.set(events)
            for event in events:
                if event.place > head:
                    new.append(event)
                    head = event.place
        if new:
            for tail in self._tails:
                tail.hand(appended.after, new)
            if self._bell:
                self._bell.ring()
        if appended.over:
            self._overfull.set()

    def _trim(self) -> None:
        # Its steps take turns with the commits, and drop more than those add.
        while True:
            self._overfull.wait(self._look_for_old * uniform(0.5, 1))  # noqa: S311 - no secret
            self._overfull.clear()
            with suppress(Unavailable):  # the follower tells
                while self._ask(self._file.trim, pool=self._writer):
                    pass

    # Following

    def _look(self, tail: Tail) -> list[Event] | Gap | None:
        """Return what the file has for a follower."""
        looks = tail.looks
        page, bounds, known = self._ask(self._file.after, tail.place, PAGE_BYTES)
        if not known:
            aged = bounds.floor > tail.place
            gap = Gap(bounds.floor, "aged") if aged else Gap(bounds.head, "unknown")
            tail.place = gap.place
            return gap
        if page.end:
            tail.place = page.end
        elif tail.looks == looks:
            tail.stale = False
        return _events(page.rows)


def _tried(function: Callable[..., T], *values: Any) -> tuple[T | None, TidingsError | None]:
    # gevent prints what is raised in its threads.
    try:
        return function(*values), None
    except TidingsError as error:
        return None, error


def _events(rows: list[str]) -> list[Event]:
    return [event for event in _paced(map(_event, rows)) if event]


def _event(row: str) -> Event | None:
    try:
        place, text = unpacked(row)
        return Event(place, Draft.loads(text))
    except (ValueError, TypeError, AttributeError, Invalid) as error:
        # Readers go on without it: nothing would bring it back.
        log.error("an event is damaged and left out (%.20s): %s", row, error)  # noqa: TRY400 - what it is says enough
        return None


def _paced(items: Iterable[T]) -> Iterator[T]:
    pace = Pace()
    for item in items:
        yield item
        pace.keep()


def _overdue() -> Unavailable:
    detail = "The log takes too long: what was published may be in it or not."
    return Unavailable(detail, "Publish the same again, with an id of your own.")


def _closed() -> Unavailable:
    return Unavailable("The hub is stopping.", "Come back in a moment.", reason="drain")
