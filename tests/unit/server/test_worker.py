"""What a worker does with a connection whose stream has ended."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from webapp.server.worker import StreamWorker


@pytest.mark.parametrize(
    ("alive", "pipelined", "served"),
    [(True, b"", True), (False, b"", False), (False, b"GET", True)],
)
def test_a_worker_that_stops_awaits_no_next_request(
    *, alive: bool, pipelined: bytes, served: bool
) -> None:
    done: list[str] = []
    connection: Any = SimpleNamespace(
        pipelined=pipelined, peer_address=("192.0.2.7", 7), close=lambda: done.append("closed")
    )
    worker: Any = SimpleNamespace(
        alive=alive,
        connections=SimpleNamespace(discard=lambda _: done.append("discarded")),
        _await_request=lambda _: done.append("awaits"),
        _serve=lambda *_: done.append("serves"),
    )
    driver: Any = SimpleNamespace(connection=connection, reusable=True, run=lambda: True)
    StreamWorker._resume(worker, driver)
    assert done == (["awaits", "serves"] if served else ["closed", "discarded"])
