"""What a task leaves out that lives as long as the worker: no input may end it.

An item that makes it fail (an event, a notice, a row, a socket) is counted and left out, and the
task goes on with the next. The log has a line for the first of a task and a kind of error in each
minute, which names the line of code and holds nothing that a client wrote.
"""

from __future__ import annotations

import logging
from collections import Counter
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

import gevent

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

logger = logging.getLogger(__name__)

_QUIET_S = 60.0  # between two lines about the same
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 5.0  # before a task that failed begins anew
_HEALTHY_S = 10.0  # after which a failure counts as the first

TASKS = (
    "accept",
    "commit",
    "demo",
    "dispatch",
    "feed",
    "follow",
    "log",
    "observer",
    "presence",
    "send",
    "stream_log",
    "tick",
    "trim",
    "wake",
)
"""What tasks are called here."""

_uncounted = Counter[str]()  # since the last look, by task
_logged: dict[tuple[str, str], float] = {}  # when, by task and kind of error


def skip(task: str, error: BaseException) -> None:
    """Count an item that a task leaves out because of an error, and log it once a minute.

    :param task: one of a few names, which is the label of the metric.
    """
    _uncounted[task] += 1
    kind, now = type(error).__name__, monotonic()
    if now - _logged.get((task, kind), -_QUIET_S) >= _QUIET_S:
        _logged[task, kind] = now
        logger.error("%s: what could not be handled is left out: %s%s", task, kind, _where(error))
        logger.debug("%s: this was the error", task, exc_info=error)


def uncounted() -> list[tuple[str, int]]:
    """Return the tasks that left items out since the last call, and how many."""
    found = list(_uncounted.items())
    _uncounted.clear()
    return found


class Skipping:
    """A context in which an error leaves out what its block was to do, and nothing else. It holds
    no state, so that one object serves all.

    :param task: as `skip` has it.
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
    task: str, run: Callable[[], None], most: float = float("inf")
) -> gevent.Greenlet[[], None]:
    """Start a task that lasts until it returns; where it fails, that is counted, and it begins
    anew after a pause.

    :param run: a loop whose items are guarded by themselves: this is for what nobody thought of.
    :param most: failures in a row with which it is given up, and the last error is raised.
    """
    return gevent.spawn(partial(_last, task, run, most))


def _last(task: str, run: Callable[[], None], most: float) -> None:
    failures = 0
    while True:
        began = monotonic()
        try:
            run()
        except Exception as error:
            skip(task, error)
            failures = 1 if monotonic() - began > _HEALTHY_S else failures + 1
            if failures >= most:
                raise
            gevent.sleep(min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(failures, 10)))
        else:
            return


def _where(error: BaseException) -> str:
    call = error.__traceback__
    if call is None:
        return ""
    while call.tb_next:
        call = call.tb_next
    return f" ({call.tb_frame.f_code.co_filename.rpartition('/')[2]}:{call.tb_lineno})"
