"""Threads that call SQLite, and do not wait long for the interpreter.

Only one thread runs Python at a time. Another one waits until the running thread waits for I/O, or
for a while, which is 5 ms by default. A thread waits that long after each call of SQLite. So while
the event loop wrote a long answer, a commit of one event took up to 0.9 s.
"""

from __future__ import annotations

import sys
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

from ..blocking import Blocking

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_SWITCH_INTERVAL_S = 0.0005


class SqliteThreads(Blocking):
    """Threads that call SQLite; see `Blocking`."""

    def _run(self, function: Callable[..., T], *values: Any) -> T:
        with _short_waits:
            return super()._run(function, *values)


class _ShortWaits:
    """Threads of this process wait for a tenth of the time while calls run.

    gevent uses the same interval: it decides how often the event loop looks for I/O. If it were
    always short, delivery to 1,000 subscribers would take a tenth more CPU.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._calls = 0
        self._interval_s = 0.0  # without calls

    def __enter__(self) -> None:
        with self._lock:
            self._calls += 1
            if self._calls == 1:
                self._interval_s = sys.getswitchinterval()
                sys.setswitchinterval(min(self._interval_s, _SWITCH_INTERVAL_S))

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._calls -= 1
            if not self._calls:
                sys.setswitchinterval(self._interval_s)


_short_waits = _ShortWaits()
