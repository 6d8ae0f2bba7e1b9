"""Removals and expirations are done in short steps, between which others append."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from webapp.brokers.postgres.broker import PostgresBroker
from webapp.core.events import Draft

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.postgres_server import PostgresServer

EVENTS = 30
STEP_BYTES = 512 << 10
LEFT = "SELECT count(*) FROM tidings.log WHERE event LIKE '%%ordinary%%'"
SIZE = "SELECT max(size) FROM tidings.log"


@pytest.fixture(name="log")
def _log(url: str) -> Iterator[PostgresBroker]:
    log = PostgresBroker(url, 100_000, 1 << 30, 86400)
    yield log
    log.close()


@pytest.fixture(name="size")
def _size(request: pytest.FixtureRequest, log: PostgresBroker, postgres: PostgresServer) -> int:
    """Append some events; return what each counts."""
    topics, length = request.param
    names = ("t", *(f"{n}" for n in range(1, topics)))
    log.append([Draft(topics=names, data="ordinary" * length, ttl=3_600_000)] * EVENTS)
    return int(postgres.ask(SIZE)[0][0])


several_sizes = pytest.mark.parametrize("size", [(1000, 1), (1, 20_000)], indirect=True)


@several_sizes
def test_a_step_expires_a_bounded_part(
    log: PostgresBroker, postgres: PostgresServer, size: int
) -> None:
    postgres.ask("UPDATE tidings.log SET expires = 1")
    left = EVENTS
    while left:
        log._functions.step("settle")
        before, left = left, postgres.ask(LEFT)[0][0]
        assert 1 <= before - left <= STEP_BYTES // size + 1


@several_sizes
def test_a_step_removes_a_bounded_part(
    log: PostgresBroker, postgres: PostgresServer, size: int
) -> None:
    entry, number = log._functions.step("remove", "t", 0, 1 << 62)
    assert number is None
    left = EVENTS
    while left:
        before, left = left, postgres.ask(LEFT)[0][0]
        assert 1 <= before - left <= STEP_BYTES // size + 1
        log._functions.step("settle")
    assert log._functions.write("removed_by", entry) == EVENTS
