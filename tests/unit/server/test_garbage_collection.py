"""When a worker returns memory to the system."""

from __future__ import annotations

import pytest

from webapp.server import garbage_collection
from webapp.server.garbage_collection import GarbageCollection


@pytest.mark.parametrize(
    ("connections", "returns"),
    [
        ([500, 400, 301, 301], 0),  # too few have ended
        ([500, 400, 300, 200, 100], 0),  # they still end
        ([500, 400, 200, 100, 100, 100], 1),
        ([500, 0, 0, 500, 0, 1], 2),
        ([0, 150, 0, 150, 0, 150], 0),
    ],
)
def test_a_worker_returns_memory_once_after_many_connections_have_ended(
    connections: list[int], returns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = list[None]()
    monkeypatch.setattr(garbage_collection, "return_free_memory", lambda: calls.append(None))
    garbage = GarbageCollection()
    for number in connections:
        garbage.tick(number)
    assert len(calls) == returns


@pytest.mark.parametrize(("connections", "returns"), [(0, 1), (500, 0)])
def test_a_worker_with_few_connections_returns_memory_once_a_minute(
    connections: int, returns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = list[None]()
    monkeypatch.setattr(garbage_collection, "return_free_memory", lambda: calls.append(None))
    garbage = GarbageCollection()
    for _ in range(60):
        garbage.tick(connections)
    assert len(calls) == returns
