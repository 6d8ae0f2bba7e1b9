"""Commit what publishers offer to a log in a file; answered means committed.

A thread commits, and what was offered meanwhile shares its next transaction. But to tell a thread
and to be told by it takes longer than a small commit, so one that is small and alone is made right
here, on the loop: some 40 microseconds, without waiting for another process or for the disk. It is
left to the thread while somebody else has the file locked, and after a commit that did wait.
"""

from __future__ import annotations

import resource
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

import gevent
from gevent.event import AsyncResult
from gevent.event import Event as Signal

from ...core.events import Event
from ...errors import ServiceUnavailable, TidingsError
from ...scheduling import cooperative
from ...tasks import skip
from ..base import conflict
from .rows import encode_row

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ...core.events import Draft, EventId
    from .log_table import Appended, LogTable
    from .rows import Row

_PATIENCE = 20  # seconds that a publisher waits; SQLite's own may pass three times before
_WAITING = 32 << 20  # bytes that publishers may have waiting
_COMMITTED, _COMMITTED_ROWS = 2 << 20, 1000  # bytes and rows in one transaction, or one offer
_LINGER = 1.0  # seconds without an offer: to end and begin anew costs a third of a commit
_SMALL, _SMALL_ROWS = 32 << 10, 10  # bytes and rows that are committed on the loop
_LONG = 0.002  # seconds of a commit that waited which are too many on the loop
_SPARED = 25  # times as long the loop is spared after such a one: it loses 4 % at most
_THREAD = getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)  # Linux knows each thread's
_ROUND, _IN_THREAD = 250, 2  # commits, and how many of them go through the thread in any case


class Offer(NamedTuple):
    """Drafts that a publisher waits for."""

    drafts: Sequence[Draft]
    rows: list[Row]
    size: int
    answer: AsyncResult[list[Event] | None]


class GroupCommitter:
    """Commits to a file.

    :param ask: runs a function in the thread.
    :param hand_on: is told what was committed after a place, and whether the log is overfull now.
    """

    def __init__(
        self,
        file: LogTable,
        ask: Callable[..., Appended],
        hand_on: Callable[[EventId, list[Event], bool], None],
    ) -> None:
        self._file, self._ask, self._hand_on = file, ask, hand_on
        self._offers: deque[Offer] = deque()
        self._waiting = 0  # bytes of the offers
        self._room, self._offered = Signal(), Signal()
        self._committer: gevent.Greenlet[[], None] | None = None
        self._in_thread = False  # a commit is under way there
        self._turn = 0
        self._spared_until = 0.0

    def append(self, drafts: Sequence[Draft]) -> list[Event]:
        """Put all drafts in the log, or none; see `Broker.append`."""
        rows = list(cooperative(map(encode_row, drafts)))
        size = sum(row.size for row in rows)
        if appended := self._at_once(rows, size):
            [events] = self._settled([drafts], appended)
            return _unopposed(events)
        offer = Offer(drafts, rows, size, AsyncResult())
        self._admit(offer, until := monotonic() + _PATIENCE)
        # A greenlet as long as there is much to do: one that fails takes no other with it.
        if not self._committer:
            self._committer = gevent.spawn(self._commit_all)
        offer.answer.wait(until - monotonic())
        if not offer.answer.ready():
            raise _overdue()
        return _unopposed(offer.answer.get())

    def _at_once(self, rows: list[Row], size: int) -> Appended | None:
        """Commit on the loop; None: it is for the thread."""
        if self._in_thread or self._offers or len(rows) > _SMALL_ROWS or size > _SMALL:
            return None
        # Now and then two go through the thread, which may have to wait for the disk: the first
        # moves what has gathered in the write-ahead log, the second begins that anew.
        self._turn = (self._turn + 1) % _ROUND
        if self._turn < _IN_THREAD or (began := monotonic()) < self._spared_until:
            return None
        waits = _waits()
        appended = self._file.append_at_once(rows)
        if (spent := monotonic() - began) > _LONG and _waits() > waits:
            self._spared_until = began + spent * _SPARED
        return appended

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
            self._in_thread = True
            try:
                self._commit(self._gathered())
            finally:
                self._in_thread = False

    def _commit(self, offers: list[Offer]) -> None:
        try:
            appended = self._ask(self._file.append, [offer.rows for offer in offers])
        except Exception as error:  # noqa: BLE001 - who waits for an answer is given it
            if len(offers) > 1 and not isinstance(error, TidingsError):
                for offer in offers:  # one of them is to blame, and the others are not
                    self._commit([offer])
                return
            if not isinstance(error, TidingsError):
                skip("commit", error)
            for offer in offers:
                offer.answer.set_exception(error)
            return
        settled = self._settled([offer.drafts for offer in offers], appended)
        for offer, events in zip(offers, settled, strict=True):
            offer.answer.set(events)

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

    def _settled(
        self, offers: list[Sequence[Draft]], appended: Appended
    ) -> list[list[Event] | None]:
        """Hand on what is new, and return each offer's events; None: a conflict."""
        settled, new, head = list[list[Event] | None](), list[Event](), appended.after
        for drafts, positions in zip(offers, appended.positions, strict=True):
            events = None if positions is None else list(cooperative(map(Event, positions, drafts)))
            settled.append(events)
            for event in events or ():
                if event.position > head:
                    new.append(event)
                    head = event.position
        self._hand_on(appended.after, new, appended.over)
        return settled


def _waits() -> int:
    """Return how often this thread has waited, as for a disk. What takes long without that was
    only put aside for another process.
    """
    return resource.getrusage(_THREAD).ru_nvcsw


def _unopposed(events: list[Event] | None) -> list[Event]:
    if events is None:
        raise conflict()
    return events


def _overdue() -> ServiceUnavailable:
    detail = "The log takes too long: what was published may be in it or not."
    return ServiceUnavailable(detail, "Publish the same again, with an id of your own.")
