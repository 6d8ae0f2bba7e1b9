"""Large appends of all processes take turns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gevent
import pytest

from support.turns import may_begin, wait_until
from support.waiting import PATIENCE
from webapp.brokers.sqlite.broker import SqliteBroker
from webapp.brokers.sqlite.turn import SqliteTurn
from webapp.brokers.sqlite.wakeup import WakeupSocket

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(name="turns")
def _turns(tmp_path: Path) -> Iterator[list[SqliteTurn]]:
    """Of two processes."""
    turns = [SqliteTurn(), SqliteTurn()]
    for turn in turns:
        turn.wakeups = WakeupSocket(tmp_path / "wake", lambda _: None)
    yield turns
    for turn in turns:
        assert turn.wakeups
        turn.wakeups.close()


def test_one_process_has_the_turn_until_its_rest_is_over(turns: list[SqliteTurn]) -> None:
    one, other = turns
    assert may_begin(one)
    assert may_begin(one)
    assert not may_begin(other)
    assert other.take(1, 0, beside_singles=False)
    one.end(0.01)
    assert not may_begin(one)
    assert not may_begin(other)
    wait_until(lambda: may_begin(other))
    assert not may_begin(one)


def test_a_rest_can_become_longer_while_it_runs(turns: list[SqliteTurn]) -> None:
    one, other = turns
    assert may_begin(one)
    one.end(0.01)
    one.end(PATIENCE * 2)
    gevent.sleep(0.03)
    assert not may_begin(other)


def test_a_process_that_hangs_has_the_turn_for_a_second_at_most(turns: list[SqliteTurn]) -> None:
    assert may_begin(turns[0])
    assert may_begin(turns[1], waited=1)


def test_a_process_that_dies_has_no_turn(turns: list[SqliteTurn]) -> None:
    assert may_begin(turns[0])
    assert turns[0].wakeups
    turns[0].wakeups.close()
    assert may_begin(turns[1])


def test_single_events_are_announced_to_the_other_processes(tmp_path: Path) -> None:
    here, there = (SqliteBroker(tmp_path / "log.db", 100, 1 << 20, 60) for _ in range(2))
    here.bounds()
    there.bounds()
    here._turn.announce_singles()
    wait_until(lambda: there._backlog._singles_elsewhere_at > 0)
    here.close()
    there.close()
