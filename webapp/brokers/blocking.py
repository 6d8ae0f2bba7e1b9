"""Calls functions that block in threads, and returns what they return.

SQLite blocks, and so does a client of Redis whose sockets gevent has not patched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast

from gevent.threadpool import ThreadPool

from .base import stopping

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

T = TypeVar("T")


class Blocking:
    """Some threads, and the calls that wait for one of them.

    :param threads: how many calls run at the same time.
    """

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPool(threads)
        self.stopped = False
        """Whether all further calls are refused."""

    def call(self, function: Callable[..., T], *values: Any) -> T:
        """Return what a function returns in a thread, or raise what it raises.

        :raises ServiceUnavailable: calls have been stopped.
        """
        if self.stopped:
            raise stopping()
        return self._run(function, *values)

    def close(self, last: Callable[[], None] | None = None) -> None:
        """Refuse all further calls, run a last function, and end the threads."""
        self.stopped = True
        if last:
            self._run(last)
        self._pool.kill()

    def _run(self, function: Callable[..., T], *values: Any) -> T:
        result, error = self._pool.apply(_catch, (function, *values))
        if error:
            raise error
        return cast("T", result)


def _catch(function: Callable[..., T], *values: Any) -> tuple[T | None, Exception | None]:
    # The error is a value, because gevent prints what is raised in its threads.
    try:
        return function(*values), None
    except Exception as error:  # noqa: BLE001 - it is raised where the result is waited for
        return None, error
