"""The workers of a server share its streams."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.processes import sockets
from support.waiting import one_of_three, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.server import Server

STREAMS = 60


@pytest.fixture(name="pair", scope="module")
def _pair(serve: Callable[..., Server]) -> Server:
    server = serve("--workers", "2")
    until(lambda: len(workers(server)) == 2, "both workers are there")
    until(lambda: fewest(server, 4), "both workers accept connections")
    return server


def workers(server: Server) -> list[int]:
    master = server.process.pid
    return [int(it) for it in Path(f"/proc/{master}/task/{master}/children").read_text().split()]


def fewest(server: Server, count: int) -> int:
    """Open some streams; return how many the worker has that got the fewest."""
    before = Counter({worker: sockets(worker) for worker in workers(server)})
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(server.listen(topic="shared"))
        return min(sockets(worker) - before[worker] for worker in workers(server))


def test_streams_that_come_one_by_one_are_spread_over_the_workers(pair: Server) -> None:
    least = STREAMS // 3  # half, where all workers get CPU at once
    assert one_of_three(lambda: fewest(pair, STREAMS), lambda count: count >= least) >= least
