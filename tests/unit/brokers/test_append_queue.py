"""Which requests share a transaction of PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gevent

from support.waiting import PATIENCE
from webapp.brokers.postgres.append_queue import AppendQueue
from webapp.core.events import Draft

if TYPE_CHECKING:
    from collections.abc import Sequence

DRAFT = Draft(topics=("t",), data="x")


class SlowChannel:
    """Appends while others wait, and knows how many events each transaction had."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def call(self, _: str, columns: Sequence[Any], *, binary: bool) -> list[Any]:
        assert binary
        gevent.sleep(0)
        count = len(columns[0])
        self.sizes.append(count)
        return [([*range(count)], 0, 0)]


def sizes_of(counts: list[int], text: str) -> list[int]:
    channel = SlowChannel()
    queue = AppendQueue(channel, lambda *_: None)  # type: ignore[arg-type]
    append = queue.append
    calls = [gevent.spawn(append, [DRAFT] * n, [text] * n, n * len(text)) for n in counts]
    gevent.joinall(calls, timeout=PATIENCE, raise_error=True)
    assert sum(channel.sizes) == sum(counts)
    return channel.sizes


def test_a_transaction_has_1000_events_or_one_request() -> None:
    assert max(sizes_of([1] * 5000, "x")) == 1000
    assert max(sizes_of([999, 2000] * 3, "x")) < 1000 + 2000


def test_a_transaction_has_1_mb_or_one_request() -> None:
    assert max(sizes_of([1] * 40, "x" * (128 << 10))) == 8
