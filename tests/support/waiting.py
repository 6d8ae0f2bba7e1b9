"""Waiting for conditions, with time for a busy machine."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


T = TypeVar("T")
PATIENCE = 60
"""Seconds for what should take milliseconds. Only a test that fails waits so long."""


def until(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Await a condition and return its value."""
    deadline = time.monotonic() + patience
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {patience} s")
        time.sleep(0.01)
    return value


def given_time(
    action: Callable[[float], T],
    right: Callable[[T], bool],
    seconds: Sequence[float] = (3, 15, 60),
) -> T:
    """Return the first outcome that is right of an action that ends after some seconds, and for
    which a slow machine needs more of them.
    """
    *few, most = seconds
    for it in few:
        if right(outcome := action(it)):
            return outcome
    return action(most)


def one_of_three(action: Callable[[], T], right: Callable[[T], bool]) -> T:
    """Return the first outcome that is right, or the third: a machine that stands still for a
    moment makes things late, and never makes them early.
    """
    for _ in range(2):
        if right(outcome := action()):
            return outcome
    return action()
