"""Which worker is ahead of the others."""

from __future__ import annotations

from typing import Any

import pytest
from gevent import socket

from webapp.config.settings import Settings
from webapp.server import stream_counts
from webapp.server.open_connections import OpenConnections
from webapp.server.stream_counts import StreamCounts


class Connection:
    is_counted = False


def add(counts: StreamCounts, number: int) -> None:
    for _ in range(number):
        connection: Any = Connection()
        counts.count(connection, is_stream=True)


@pytest.fixture(name="pair")
def _pair() -> Any:
    stream_counts.add_worker(1)
    pair = StreamCounts(0), StreamCounts(1)
    for counts in pair:
        counts.join()
    yield pair
    for number in range(2):
        stream_counts.discard_worker(number)


def test_a_worker_is_ahead_if_another_has_fewer_streams(pair: Any) -> None:
    first, second = pair
    assert not first.is_ahead()
    add(first, 1)
    assert first.is_ahead()
    assert not second.is_ahead()
    add(second, 1)
    assert not first.is_ahead()


def test_a_worker_is_not_ahead_for_a_small_part_of_many_streams(pair: Any) -> None:
    first, second = pair
    add(first, 42)
    add(second, 40)
    assert not first.is_ahead()
    add(first, 1)
    assert first.is_ahead()


def test_a_worker_that_left_or_ended_does_not_count(pair: Any) -> None:
    first, second = pair
    add(first, 9)
    second.leave()
    assert not first.is_ahead()
    second.join()
    assert first.is_ahead()
    stream_counts.discard_worker(1)
    assert not first.is_ahead()


def test_a_connection_counts_once(pair: Any) -> None:
    first, _ = pair
    connection: Any = Connection()
    for is_stream in (True, True, False, False):
        first.count(connection, is_stream=is_stream)
    assert not first.is_ahead()


def test_workers_of_high_numbers_share_nothing(pair: Any) -> None:
    first, _ = pair
    high = StreamCounts(64)
    high.join()
    add(high, 5)
    assert not high.is_ahead()
    assert not first.is_ahead()


def test_nobody_waits_for_a_worker_at_its_limit(pair: Any) -> None:
    first, second = pair
    add(second, 9)
    refused: Any = None
    full = OpenConnections(Settings(), 1, 60, first, refused)
    with socket.socket() as client:
        connection = full.add(client)
        assert not second.is_ahead()
        full.discard(connection)
        assert second.is_ahead()


def test_a_worker_that_is_added_shares_streams(pair: Any) -> None:
    first, _ = pair
    stream_counts.add_worker(5)
    third = StreamCounts(5)
    third.join()
    add(first, 1)
    add(pair[1], 1)
    assert first.is_ahead()
    stream_counts.discard_worker(5)
    assert not first.is_ahead()
