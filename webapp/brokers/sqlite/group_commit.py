"""Commits what publishers append to an event log in a file. An answer means committed.

One thread commits. Appends that arrive meanwhile share its next transaction (group commit), small
ones with small ones. A small append that finds the thread idle is committed directly on the event
loop.

To report a large append takes longer than a small commit: an event is built of each draft. So small
appends are committed meanwhile, and reported after it, in the order of their positions.
"""

from __future__ import annotations

from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

import gevent
from gevent.event import AsyncResult
from gevent.event import Event as Signal

from ...core.events import Event
from ...errors import Conflict, ServiceUnavailable, TidingsError
from ...scheduling import map_cooperatively
from ...tasks import skip
from ..backlog import is_large
from ..base import too_fast
from .inline_commit import InlineCommitPolicy
from .rows import encode_row, from_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ...core.events import Draft, EventId
    from ..backlog import Backlog
    from .log_table import Appended, LogTable
    from .rows import Row

_PUBLISH_TIMEOUT_S = 20  # longer than three of SQLite's own time-outs
# What one transaction appends, or one append if that is more: of small ones, and of large ones.
_SMALL_BATCH_BYTES, _SMALL_BATCH_ROWS = 2 << 20, 1000
_LARGE_BATCH_BYTES, _LARGE_BATCH_ROWS = 256 << 10, 250
_LINGER_S = 1.0  # how long an idle greenlet waits: to start another costs a third of a commit


class PendingAppend(NamedTuple):
    """Drafts that a publisher waits for."""

    drafts: Sequence[Draft]
    rows: list[Row]
    size: int  # bytes of the rows
    result: AsyncResult[list[Event] | Conflict]


class Commit(NamedTuple):
    """A transaction of the thread, which is to be reported."""

    batch: list[PendingAppend]
    appended: Appended


class GroupCommitter:
    """Commits to a file.

    :param run: calls a function in the thread.
    :param on_commit: called at once after a commit, with the head before it: other processes can
        read the file.
    :param on_events: called later, with the head before a commit, the new events, and whether the
        event log exceeds its limits now.
    """

    def __init__(
        self,
        table: LogTable,
        run: Callable[..., Appended],
        on_commit: Callable[[EventId], None],
        on_events: Callable[[EventId, list[Event], bool], None],
        backlog: Backlog,
    ) -> None:
        self._table, self._run = table, run
        self._on_commit, self._on_events = on_commit, on_events
        self._backlog = backlog
        self._inline = InlineCommitPolicy()
        self._small, self._large = deque[PendingAppend](), deque[PendingAppend]()
        self._is_small_turn = False
        self._has_pending = Signal()
        self._greenlet: gevent.Greenlet[[], None] | None = None
        self._in_thread = False  # a commit runs there now
        self._unreported = deque[Commit]()

    def append(self, drafts: Sequence[Draft]) -> list[Event]:
        """Append all drafts, or none; see `Broker.append`."""
        rows = map_cooperatively(encode_row, drafts)
        size = sum([row.size for row in rows])
        if appended := self._try_inline(rows, size):
            return _or_raise(self._events_by_append([drafts], appended)[0])
        until = monotonic() + _PUBLISH_TIMEOUT_S
        if not self._backlog.wait_for_room(len(rows), size, _PUBLISH_TIMEOUT_S):
            raise _overdue() if self._in_thread else too_fast()
        pending = PendingAppend(drafts, rows, size, AsyncResult())
        self._enqueue(pending)
        pending.result.wait(until - monotonic())
        return _or_raise(pending.result.get() if pending.result.ready() else None)

    def _try_inline(self, rows: list[Row], size: int) -> Appended | None:
        """Commit on the event loop. Returns None if the thread has to do it."""
        if self._in_thread or self._unreported or self._has_any():
            return None
        if not self._inline.allows(len(rows), size):
            return None
        if not self._backlog.has_room(len(rows), size):
            return None
        if appended := self._inline.observe(self._table.try_append, rows):
            self._on_commit(appended.after)
        return appended

    def _enqueue(self, pending: PendingAppend) -> None:
        large = is_large(len(pending.rows), pending.size)
        self._backlog.begin(pending.size, large=large)
        is_small = self._inline.is_small(len(pending.rows), pending.size)
        (self._small if is_small else self._large).append(pending)
        self._has_pending.set()
        # It runs only while there is something to commit. After a failure there is a new one.
        if not self._greenlet:
            self._greenlet = gevent.spawn(self._commit_all)

    def _has_any(self) -> bool:
        return bool(self._small or self._large)

    def _commit_all(self) -> None:
        while self._has_any() or self._has_pending.wait(_LINGER_S) or self._has_any():
            self._has_pending.clear()
            self._in_thread = True
            batch = self._next_batch()
            try:
                self._commit(batch)
            finally:
                self._in_thread = False

    def _commit(self, batch: list[PendingAppend]) -> None:
        try:
            appended = self._run(self._table.append, [pending.rows for pending in batch])
        except TidingsError as error:
            self._fail(batch, error)
        except Exception as error:  # noqa: BLE001 - it is raised where the result is waited for
            if len(batch) > 1:  # one append is the cause: commit each by itself
                for pending in batch:
                    self._commit([pending])
                return
            skip("commit", error)
            self._fail(batch, error)
        else:
            self._on_commit(appended.after)
            self._report(Commit(batch, appended))

    def _report(self, commit: Commit) -> None:
        self._unreported.append(commit)
        if len(self._unreported) > 1:
            return
        if self._is_small_turn:
            self._report_all()
        else:
            gevent.spawn(self._report_all)

    def _report_all(self) -> None:
        while self._unreported:
            batch, appended = self._unreported[0]
            try:
                events = self._events_by_append([pending.drafts for pending in batch], appended)
            except Exception as error:  # noqa: BLE001 - it is raised where the result is waited for
                skip("commit", error)
                self._fail(batch, error)
            else:
                for pending, found in zip(batch, events, strict=True):
                    pending.result.set(found)
                self._backlog.add(-_size(batch))
            self._unreported.popleft()

    def _fail(self, batch: list[PendingAppend], error: Exception) -> None:
        for pending in batch:
            pending.result.set_exception(error)
        self._backlog.add(-_size(batch))

    def _next_batch(self) -> list[PendingAppend]:
        """Return what the next transaction appends: small appends or large ones, in turns where
        both wait. So a small one never waits for all large ones, and these do not starve.
        """
        batch, rows, size = [], 0, 0
        self._is_small_turn = bool(self._small) and not (self._is_small_turn and self._large)
        if self._is_small_turn:
            queue, most_rows, most_bytes = self._small, _SMALL_BATCH_ROWS, _SMALL_BATCH_BYTES
        else:
            queue, most_rows, most_bytes = self._large, _LARGE_BATCH_ROWS, _LARGE_BATCH_BYTES
        while queue and rows < most_rows and size < most_bytes:
            pending = queue.popleft()
            batch.append(pending)
            rows += len(pending.rows)
            size += pending.size
        return batch

    def _events_by_append(
        self, appends: list[Sequence[Draft]], appended: Appended
    ) -> list[list[Event] | Conflict]:
        """Report the new events, and return the events of each append, or why it is refused."""
        found: list[list[Event] | Conflict] = []
        new: list[Event] = []
        head = appended.after
        for drafts, keys in zip(appends, appended.keys, strict=True):
            if isinstance(keys, Conflict):
                found.append(keys)
                continue
            events = map_cooperatively(_event, keys, drafts)
            found.append(events)
            for event in events:
                if event.position > head:
                    new.append(event)
                    head = event.position
        self._on_events(appended.after, new, appended.over_limit)
        return found


def _event(key: int, draft: Draft) -> Event:
    return Event(from_key(key), draft)


def _size(batch: list[PendingAppend]) -> int:
    return sum([pending.size for pending in batch])


def _or_raise(events: list[Event] | Conflict | None) -> list[Event]:
    if isinstance(events, list):
        return events
    raise events or _overdue()


def _overdue() -> ServiceUnavailable:
    detail = "The event log did not answer in time. The event may be published, or not."
    return ServiceUnavailable(detail, "Publish the same again, with an id of your own.")
