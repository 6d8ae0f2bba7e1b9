"""The workers of a server share its streams."""

from __future__ import annotations

import re
import signal
from collections import Counter
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.inherited import inheriting
from support.processes import kill
from support.server import serving
from support.waiting import one_of_three, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.server import Server

STREAMS = 60
TOPICS = (f"shared-{number}" for number in count())


@pytest.fixture(name="pair", scope="module")
def _pair(serve: Callable[..., Server]) -> Server:
    return with_workers(serve("--workers", "2"), 2)


@pytest.fixture(name="inheriting_pair")
def _inheriting_pair(tmp_path: Path) -> Iterator[Server]:
    """Two workers whose socket listened before the server started."""
    with serving(["--workers", "2"], {}, tmp_path / "log", inheriting("127.0.0.1:0")) as server:
        yield with_workers(server, 2)


def with_workers(server: Server, number: int) -> Server:
    """Return a server once so many workers serve streams, and no others."""

    def all_serve() -> bool:
        with ExitStack() as stack, suppress(AssertionError):  # a worker that stops refuses them
            serving = open_streams(server, stack, 4)
            return workers(server) == serving.keys() and len(serving) == number
        return False

    until(all_serve, f"{number} workers serve streams")
    return server


def workers(server: Server) -> set[int]:
    master = server.process.pid
    children = Path(f"/proc/{master}/task/{master}/children").read_text()
    return set(map(int, children.split()))


def open_streams(server: Server, stack: ExitStack, number: int) -> Counter[int]:
    """Open some streams, one after another. Return how many each worker serves."""
    topic = next(TOPICS)
    opened = re.compile(rf"\[(\d+)\] \[INFO\] stream opened: .* topics={topic} ")
    for _ in range(number):
        stack.enter_context(server.listen(topic=topic)).next()
    until(lambda: len(opened.findall(server.log)) == number, "all are logged")
    return Counter(map(int, opened.findall(server.log)))


def fewest(server: Server) -> int:
    """Open streams; return how many the worker has that got the fewest."""
    with ExitStack() as stack:
        found = open_streams(server, stack, STREAMS)
    return min(found[worker] for worker in workers(server))


def assert_shared(fewest: Callable[[], int], share: int) -> None:
    """Check that a worker gets its share of some streams, where all workers get CPU at once. A busy
    machine may take a third from it.
    """
    least = share * 2 // 3
    assert one_of_three(fewest, lambda number: number >= least) >= least


def test_streams_that_come_one_by_one_are_spread_over_the_workers(pair: Server) -> None:
    assert_shared(lambda: fewest(pair), STREAMS // 2)


def test_streams_are_spread_again_after_a_worker_was_killed(pair: Server) -> None:
    def of_the_new_worker() -> int:
        with ExitStack() as stack:
            before = open_streams(pair, stack, STREAMS)
            killed = min(before)
            kill(killed)  # else it may still accept, and then cut, one of the next
            until(lambda: new_ones_served(pair, before), "another worker has replaced it")
            again = open_streams(pair, stack, before.pop(killed))
            of_others = sum(again[survivor] for survivor in before)
            return STREAMS - STREAMS * of_others // again.total()

    assert_shared(of_the_new_worker, STREAMS)


def new_ones_served(server: Server, before: Counter[int]) -> bool:
    """Whether a worker serves streams that was not there before."""
    with ExitStack() as stack:
        return not open_streams(server, stack, 2).keys() & before.keys()


def test_streams_are_spread_over_workers_that_are_added(serve: Callable[..., Server]) -> None:
    server = with_workers(serve("--workers", "1"), 1)
    server.process.send_signal(signal.SIGTTIN)
    with_workers(server, 2)
    assert_shared(lambda: fewest(server), STREAMS // 2)
    server.process.send_signal(signal.SIGTTOU)
    with_workers(server, 1)
    assert fewest(server) == STREAMS


def test_workers_share_the_streams_of_an_inherited_socket(inheriting_pair: Server) -> None:
    assert_shared(lambda: fewest(inheriting_pair), STREAMS // 2)
