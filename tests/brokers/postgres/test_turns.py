"""Large appends of all processes take turns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.turns import may_begin, wait_until
from webapp.brokers.postgres.broker import PostgresBroker
from webapp.core.events import Draft, EventId

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.postgres_server import PostgresServer
    from webapp.brokers.postgres.turn import PostgresTurn


@pytest.fixture(name="brokers")
def _brokers(url: str) -> Iterator[list[PostgresBroker]]:
    """Of two processes."""
    brokers = [PostgresBroker(url, 1000, 1 << 20, 60) for _ in range(2)]
    yield brokers
    for broker in brokers:
        broker.close()


@pytest.fixture(name="turns")
def _turns(brokers: list[PostgresBroker]) -> list[PostgresTurn]:
    return [broker._turn for broker in brokers]


def test_one_process_has_the_turn_until_its_rest_is_over(turns: list[PostgresTurn]) -> None:
    one, other = turns
    assert may_begin(one)
    assert may_begin(one)
    assert not may_begin(other)
    assert other.take(1, 0, beside_singles=False)
    one.end(0.01)
    wait_until(lambda: may_begin(other))
    assert not may_begin(one)


def test_a_process_that_hangs_has_the_turn_for_a_second_at_most(turns: list[PostgresTurn]) -> None:
    assert may_begin(turns[0])
    assert may_begin(turns[1], waited=1)


@pytest.mark.parametrize("until", ["now - 1", "now + 6000"])
def test_a_turn_that_is_over_or_too_long_counts_no_more(
    postgres: PostgresServer, url: str, turns: list[PostgresTurn], until: str
) -> None:
    assert may_begin(turns[0])
    assert not may_begin(turns[1])
    postgres.ask(f"UPDATE tidings.turn SET until = {until} FROM tidings.now_ms() AS now", url=url)
    assert may_begin(turns[1])


def test_while_no_single_events_come_a_large_append_does_not_wait(
    turns: list[PostgresTurn],
) -> None:
    assert may_begin(turns[0])
    assert turns[1].take(1, 0, beside_singles=False)


def test_it_waits_for_another_process_to_which_single_events_come(
    brokers: list[PostgresBroker], turns: list[PostgresTurn]
) -> None:
    assert may_begin(turns[0])
    turns[0].announce_singles()
    wait_until(lambda: not turns[1].take(1, 0, beside_singles=False))
    assert brokers[1]._lead.backlog._singles_elsewhere_at > 0


def test_what_a_crashed_server_has_forgotten_is_stored_again(
    postgres: PostgresServer, url: str, turns: list[PostgresTurn]
) -> None:
    assert may_begin(turns[0])
    postgres.ask("DELETE FROM tidings.turn", url=url)
    turns[0].end(0)
    turns[0].announce_singles()
    wait_until(lambda: bool(postgres.ask("SELECT 1 FROM tidings.turn", url=url)))
    assert may_begin(turns[0])


def test_an_event_counts_its_topics(
    brokers: list[PostgresBroker], monkeypatch: pytest.MonkeyPatch
) -> None:
    lead, counted = brokers[0]._lead, list[tuple[int, int]]()
    monkeypatch.setattr(lead, "begin", lambda *counts: counted.append(counts))
    monkeypatch.setattr(lead, "end", lambda _, *counts: counted.append(counts))
    monkeypatch.setattr(brokers[0]._queue, "append", lambda *_: [EventId(1, 1)])
    brokers[0].append([Draft(topics=tuple(map(str, range(500))))])
    assert counted[0] == counted[1]
    assert counted[0] > (1, 100_000)
