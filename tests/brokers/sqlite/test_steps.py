"""Removals and expirations in a file are done in short steps, between which others commit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gevent
import pytest

from webapp.brokers.sqlite import expiration_steps, expirations
from webapp.brokers.sqlite.expiration_steps import ExpirationSteps
from webapp.brokers.sqlite.log_table import LogTable
from webapp.brokers.sqlite.removal_steps import STEP_ENTRIES, STEP_ROWS, Begun, RemovalSteps
from webapp.brokers.sqlite.remover import Remover
from webapp.brokers.sqlite.rows import encode_row
from webapp.core.events import Draft, EventId
from webapp.core.removals import Removal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ALL = EventId(0, 0), EventId(1 << 60, 0)
LONG_AFTER_MS = 1 << 50


@pytest.fixture(name="table")
def _table(path: Path) -> LogTable:
    return LogTable(path, 100_000, 1 << 30, 86400)


def left(table: LogTable) -> int:
    [count] = table._read_row("SELECT count(*) FROM events WHERE draft NOT LIKE '[[]%'")
    return int(count)


@pytest.mark.parametrize(
    ("topics", "size", "most"),
    [(1, 1, STEP_ROWS), (500, 1, STEP_ENTRIES // 500 + 1), (1, 400_000, 2)],
    ids=["many", "with many topics", "large"],
)
def test_a_step_expires_a_bounded_part(
    table: LogTable, monkeypatch: pytest.MonkeyPatch, topics: int, size: int, most: int
) -> None:
    names = tuple(f"t{number}" for number in range(topics))
    drafts = [Draft(topics=names, data="x" * size, ttl=1000) for _ in range(most + 1)]
    table.append([[encode_row(it)] for it in drafts])
    for module in (expirations, expiration_steps):
        monkeypatch.setattr(module, "now", lambda: LONG_AFTER_MS)
    steps = ExpirationSteps(table.database)
    assert steps.step()
    assert left(table) == 1
    assert not steps.step()
    assert left(table) == 0


def test_a_step_removes_a_bounded_part(table: LogTable) -> None:
    table.append([[encode_row(Draft(topics=("t",), data="x"))] for _ in range(STEP_ROWS + 1)])
    steps = RemovalSteps(table)
    position, number = steps.begin(Removal("t", *ALL))
    assert (left(table), number) == (2, None)  # an event, and the entry of the removal
    assert position
    assert steps.step(position)
    assert left(table) == 1


class Calls:
    """Calls a function when others have run; notes how many calls run at once."""

    def __init__(self) -> None:
        self.running = self.most = 0

    def __call__(self, function: Callable[..., Any], *values: Any) -> Any:
        self.running += 1
        self.most = max(self.most, self.running)
        gevent.sleep(0)
        self.running -= 1
        return function(*values)


class FakeSteps:
    """Removals that take ten steps each."""

    def __init__(self) -> None:
        self.begun = self.emptied = 0
        self.left = dict[EventId, int]()

    def begin(self, _: Removal) -> Begun:
        self.begun += 1
        position = EventId(self.begun, 0)
        self.left[position] = 10
        return Begun(position, None)

    def step(self, position: EventId) -> bool:
        self.left[position] -= 1
        return not self.left[position]

    def forget(self, position: EventId) -> int:
        return 10 - self.left.pop(position)

    def empty_wal(self) -> None:
        self.emptied += 1


class FakeExpirations:
    """Expirations that take a hundred steps."""

    def __init__(self) -> None:
        self.due = 100

    def step(self) -> bool:
        self.due -= 1
        return self.due > 0


def test_one_step_at_a_time_waits_for_the_thread_that_commits() -> None:
    fake, expiring, writes = FakeSteps(), FakeExpirations(), Calls()
    removals: Any = fake
    expirations: Any = expiring
    remover = Remover(removals, expirations, Calls(), writes, lambda: None)
    removing = [gevent.spawn(remover.remove, Removal("t", *ALL)) for _ in range(20)]
    tasks: list[gevent.Greenlet[..., Any]] = [*removing, gevent.spawn(remover.expire)]
    gevent.joinall(tasks, raise_error=True)
    assert [it.get().number for it in removing] == [10] * 20
    assert expiring.due == 0
    assert writes.most <= 2  # a step, and what forgets a removal that is done
    assert 1 <= fake.emptied < 20
