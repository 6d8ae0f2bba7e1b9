"""Which appends share a transaction."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import gevent
from gevent.event import Event as Signal

from support.waiting import PATIENCE
from webapp.brokers.backlog import Backlog
from webapp.brokers.sqlite.group_commit import GroupCommitter
from webapp.brokers.sqlite.log_table import Appended
from webapp.brokers.sqlite.rows import SEQ_BITS
from webapp.core.events import Draft, EventId
from webapp.scheduling import map_cooperatively

if TYPE_CHECKING:
    import pytest

    from webapp.core.events import Event

MANY = 300
TABLE: Any = SimpleNamespace(append=None, try_append=lambda _: None)
DRAFT = Draft(topics=("t",), data="x")


def nothing(*_: Any) -> None:
    """Take any report."""


def test_small_appends_and_large_ones_take_turns() -> None:
    commits: list[list[int]] = []

    def run(_: Any, appends: list[list[Any]]) -> Appended:
        commits.append([len(rows) for rows in appends])
        gevent.sleep(0)  # as long as the thread works, others append
        keys = [[len(commits) << SEQ_BITS | number for number in range(len(it))] for it in appends]
        return Appended(EventId(0, 0), [*keys], over_limit=False)

    committer = GroupCommitter(TABLE, run, nothing, nothing, Backlog(1 << 30))
    sizes = [MANY, MANY, MANY, 1, 1]
    appends = [gevent.spawn(committer.append, [DRAFT] * size) for size in sizes]
    gevent.joinall(appends, timeout=PATIENCE, raise_error=True)
    assert [len(it.value or ()) for it in appends] == sizes
    small = commits.index([1, 1])
    assert small <= 1
    assert [it for it in commits if it != [1, 1]] == [[MANY]] * 3


class SlowReports:
    """A committer that takes its time to build the events of a large append."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[str] = []
        self.reported: list[EventId] = []
        self.may_build = Signal()
        self.error: Exception | None = None
        self.build = map_cooperatively
        monkeypatch.setattr(f"{GroupCommitter.__module__}.map_cooperatively", self.map)
        self.committer = GroupCommitter(
            TABLE, self.run, self.committed, self.report, Backlog(1 << 30)
        )

    def map(self, function: Any, *items: Any) -> Any:
        if len(items) > 1 and len(items[0]) == MANY:
            assert self.may_build.wait(PATIENCE)
            if self.error:
                raise self.error
        return self.build(function, *items)

    def run(self, _: Any, appends: list[list[Any]]) -> Appended:
        after = len(self.steps)
        self.steps.append(f"commit {sum(map(len, appends))}")
        gevent.sleep(0)
        rows = iter(range(MANY))
        keys = [[after + 1 << SEQ_BITS | next(rows) for _ in it] for it in appends]
        return Appended(EventId(after, 0), [*keys], over_limit=False)

    def committed(self, _: EventId) -> None:
        self.steps.append("others can read")

    def report(self, _: EventId, events: list[Event], __: bool) -> None:  # noqa: FBT001 - as it is called
        self.steps.append(f"report {len(events)}")
        self.reported += [event.position for event in events]

    def append(self, size: int) -> gevent.Greenlet[..., list[Event]]:
        return gevent.spawn(self.committer.append, [DRAFT] * size)

    def wait_for_commits(self, number: int) -> None:
        with gevent.Timeout(PATIENCE):
            while self.steps.count("others can read") < number:
                gevent.sleep(0.001)


def test_single_events_are_committed_before_the_events_of_a_large_append_are_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slow = SlowReports(monkeypatch)
    appends = [slow.append(MANY)]
    for number in (1, 2, 3):
        slow.wait_for_commits(number)
        appends.append(slow.append(1))
    slow.wait_for_commits(4)
    slow.may_build.set()
    gevent.joinall(appends, timeout=PATIENCE, raise_error=True)
    committed = [f"commit {MANY}", "others can read", *["commit 1", "others can read"] * 3]
    assert slow.steps == [*committed, f"report {MANY}", *["report 1"] * 3]
    assert slow.reported == sorted(slow.reported)
    assert slow.reported == [event.position for it in appends for event in it.value or ()]


def test_an_append_that_cannot_be_reported_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = SlowReports(monkeypatch)
    large = slow.append(MANY)
    slow.wait_for_commits(1)
    single = slow.append(1)
    slow.wait_for_commits(2)
    slow.error = RuntimeError()
    slow.may_build.set()
    gevent.joinall([large, single], timeout=PATIENCE)
    assert isinstance(large.exception, RuntimeError)
    assert single.value
    assert slow.steps[-1] == "report 1"
    assert slow.committer._backlog.size == 0


def test_a_transaction_joins_a_bounded_number_of_rows_or_is_one_append() -> None:
    commits: list[int] = []

    def run(_: Any, appends: list[list[Any]]) -> Appended:
        commits.append(sum(map(len, appends)))
        gevent.sleep(0)  # as long as the thread works, others append
        keys = [[len(commits) << SEQ_BITS | number for number in range(len(it))] for it in appends]
        return Appended(EventId(0, 0), [*keys], over_limit=False)

    committer = GroupCommitter(TABLE, run, nothing, nothing, Backlog(1 << 30))
    sizes = [1] * 2500 + [20] * 50 + [2000] * 3
    appends = [gevent.spawn(committer.append, [DRAFT] * size) for size in sizes]
    gevent.joinall(appends, timeout=PATIENCE, raise_error=True)
    assert sum(commits) == sum(sizes)
    assert max(commits) < 250 + 2000
    assert sorted(commits)[-4] <= 1000
