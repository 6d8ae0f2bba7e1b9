"""The turn of large appends, which all processes share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gevent

from support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from webapp.brokers.backlog import SharedTurn


def wait_until(condition: Callable[[], bool]) -> None:
    """Await a condition while greenlets run."""
    with gevent.Timeout(PATIENCE):
        while not condition():
            gevent.sleep(0.001)


def may_begin(turn: SharedTurn, waited: float = 0.0) -> bool:
    """Whether a large append may begin while single events come."""
    return turn.take(1, waited, beside_singles=True)
