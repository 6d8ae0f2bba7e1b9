"""The event log in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from webapp.brokers.memory import MemoryBroker
from webapp.core.events import Draft, EventId

if TYPE_CHECKING:
    import pytest


def test_ids_never_go_backwards_whatever_the_clock_does() -> None:
    position = EventId(1000, 5)
    assert position.next(2000) == (2000, 0)
    assert position.next(1000) == (1000, 6)
    assert position.next(10) == (1000, 6)


def test_the_log_forgets_by_age_and_with_it_the_own_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = 1_000_000
    monkeypatch.setattr("webapp.brokers.memory.now", lambda: moment)
    broker = MemoryBroker(100, 1 << 20, max_age=0.4)
    older, old = broker.append([Draft(topics=("t",), id="a"), Draft(topics=("t",), id="b")])
    assert [broker.position_of("a"), broker.position_of("b")] == [older.position, old.position]
    moment += 401
    assert broker.bounds() == (old.position, old.position)
    assert broker.position_of("a") is None
    assert broker.position_of("b") == old.position  # the floor is still a place to come back to
    [new] = broker.append([Draft(topics=("t",), id="b", data="other")])
    assert new.position > old.position
    assert broker.positions_of("b", None, 9) == [old.position, new.position]
