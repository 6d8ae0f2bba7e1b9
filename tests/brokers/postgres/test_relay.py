"""The relay, which moves what transactions publish to the event log."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import gevent
import pytest

from support.waiting import PATIENCE
from webapp.brokers.postgres import relay as module
from webapp.brokers.postgres.broker import PostgresBroker
from webapp.brokers.postgres.relay import Relay
from webapp.tasks import take_uncounted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.postgres_server import PostgresServer

WAITS = "SELECT pg_sequence_last_value('tidings.relay_waits_until') > 1"


@pytest.fixture(name="relay")
def _relay(url: str) -> Iterator[Relay]:
    """A relay in this process."""
    log = PostgresBroker(url, 1000, 1 << 20, 3600)
    log.bounds()
    relay = Relay(log.database, log.reader)
    relay.start()
    yield relay
    relay.stop()
    log.close()


def turn_until(is_met: Callable[[], bool]) -> None:
    """Let the relay work until a condition is met."""
    with gevent.Timeout(PATIENCE):
        while not is_met():
            gevent.sleep(0.01)


def test_all_that_waits_after_a_restore_is_moved_without_a_pause(
    postgres: PostgresServer, url: str
) -> None:
    log = PostgresBroker(url, 10_000, 1 << 24, 3600)
    log.bounds()
    relay = Relay(log.database, log.reader)
    postgres.ask("UPDATE tidings.moves SET moved_before = '999999999999'", url=url)
    for _ in range(3):
        many = "SELECT tidings.publish('t', n::text) FROM generate_series(1, 1500) n"
        postgres.ask(many, url=url)
    assert [relay._move() for _ in range(3)] == [True, True, False]
    assert postgres.ask("SELECT count(*) FROM tidings.outbox", url=url) == [(0,)]
    postgres.ask("SELECT tidings.publish('t', 'new')", url=url)
    assert not relay._move()
    assert postgres.ask("SELECT count(*) FROM tidings.outbox", url=url) == [(0,)]
    relay.stop()
    log.close()


@pytest.mark.usefixtures("relay")
def test_refused_events_are_counted_and_logged_once_a_minute(
    postgres: PostgresServer,
    url: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    take_uncounted()
    counted = list[tuple[str, int]]()

    def refuse(data: str) -> None:
        """Publish an event whose own id another one has by then."""
        own = f"SELECT tidings.publish('t', v, id => '{data}') FROM (VALUES ('a'), ('b')) t (v)"
        postgres.ask(own, url=url)
        turn_until(lambda: counted_one_more(len(counted)))

    def counted_one_more(before: int) -> bool:
        counted.extend(take_uncounted())
        return len(counted) > before

    refuse("1")
    refuse("2")
    refuse("3")
    later = time.monotonic() + 61
    monkeypatch.setattr(module, "monotonic", lambda: later)
    refuse("4")
    assert counted == [("relay", 1)] * 4
    lines = [it.getMessage() for it in caplog.records if "refused" in it.getMessage()]
    assert lines == [
        f"the event log refused {n} events of transactions: see the table tidings.refused"
        for n in (1, 3)
    ]


@pytest.mark.usefixtures("relay")
def test_many_transactions_need_not_notify_the_relay(
    postgres: PostgresServer, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BUSY_S", 0.2)

    def waits() -> bool:
        return postgres.ask(WAITS, url=url) == [(True,)]

    turn_until(waits)
    postgres.ask("SELECT tidings.publish('t') FROM generate_series(1, 60)", url=url)
    turn_until(lambda: not waits())
    turn_until(waits)
