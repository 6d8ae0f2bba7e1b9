"""Tasks that run as long as the worker: no input may end one.

If a task fails with an item (an event, a notice, a row, a socket), it counts and skips the item,
and goes on. The first failure of a task with a kind of error is logged, once a minute. The line
names the place in the code and holds nothing that a client sent.
"""

from __future__ import annotations

import logging
from collections import Counter
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

import gevent

from .backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

logger = logging.getLogger(__name__)

_LOG_INTERVAL_S = 60.0  # between two lines about the same
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0  # before a task that failed begins again
_HEALTHY_S = 10.0  # a task that ran for longer has not failed in a row

TASKS = (
    "accept",
    "commit",
    "demo",
    "dispatch",
    "feed",
    "follow",
    "index",
    "log",
    "observer",
    "presence",
    "relay",
    "remove",
    "sample",
    "send",
    "tick",
    "trim",
    "wake",
)
"""The names of all tasks."""

_uncounted = Counter[str]()  # items skipped since the last look, by task
_logged: dict[tuple[str, str], float] = {}  # when a line was written, by task and kind of error


def skip(task: str, error: BaseException) -> None:
    """Count an item that a task skips because of an error, and log the error once a minute.

    :param task: one of `TASKS`, the label of the metric.
    """
    _uncounted[task] += 1
    kind, now = type(error).__name__, monotonic()
    if now - _logged.get((task, kind), -_LOG_INTERVAL_S) >= _LOG_INTERVAL_S:
        _logged[task, kind] = now
        logger.error("The task %s skipped an item after an error: %s%s", task, kind, _where(error))
        logger.debug("This was the error of the task %s", task, exc_info=error)


def count_skipped(task: str, number: int) -> None:
    """Count items that a task skips for a reason that it logs itself."""
    _uncounted[task] += number


def take_uncounted() -> list[tuple[str, int]]:
    """Return which tasks skipped items since the last call, and how many."""
    found = list(_uncounted.items())
    _uncounted.clear()
    return found


class Skipping:
    """A context that skips the rest of its block after an error. It holds no state, so one object
    serves all.

    :param task: as in `skip`.
    """

    __slots__ = ("_task",)

    def __init__(self, task: str) -> None:
        self._task = task

    def __enter__(self) -> None:
        """There is nothing to prepare."""

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception):  # such as the end of its greenlet
            return False
        skip(self._task, error)
        return True


def lasting(
    task: str, run: Callable[[], None], max_failures: float = float("inf")
) -> gevent.Greenlet[[], None]:
    """Start a task that ends when it returns. When it fails it begins again after a pause.

    :param run: a loop that handles errors of its items itself; this is for all other errors.
    :param max_failures: in a row, after which the last error is raised.
    """
    return gevent.spawn(partial(_run, task, run, max_failures))


def _run(task: str, run: Callable[[], None], max_failures: float) -> None:
    backoff = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
    while True:
        began = monotonic()
        try:
            run()
        except Exception as error:
            skip(task, error)
            if monotonic() - began > _HEALTHY_S:
                backoff.reset()
            pause = backoff.next()
            if backoff.failures >= max_failures:
                raise
            gevent.sleep(pause)
        else:
            return


def _where(error: BaseException) -> str:
    traceback = error.__traceback__
    if traceback is None:
        return ""
    while traceback.tb_next:
        traceback = traceback.tb_next
    file = traceback.tb_frame.f_code.co_filename.rpartition("/")[2]
    return f" ({file}:{traceback.tb_lineno})"
