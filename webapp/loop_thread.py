"""A thread with gevent's event loop, in a process whose sockets and threads gevent has not patched.

Brokers and the hub run in it. The threads of the server call them, and wait for the answers.
"""

from __future__ import annotations

from dataclasses import is_dataclass
from functools import partial
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import gevent
from gevent import monkey

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def has_gevent() -> bool:
    """Whether gevent has patched the sockets, and so the threads."""
    return monkey.is_module_patched("socket")


class Answer(Generic[T]):
    """What a call in the thread returns or raises.

    :param function: the call.
    """

    def __init__(self, function: Callable[[], T]) -> None:
        self._function = function
        self._is_there = Event()
        self._error: BaseException | None = None
        self._value: T | None = None

    def run(self) -> None:
        """Call the function."""
        try:
            self._value = self._function()
        except BaseException as error:  # noqa: BLE001 - it is raised where the answer is waited for
            self._error = error
        finally:
            self._is_there.set()

    def wait(self, seconds: float | None = None) -> T:
        """Wait for the answer.

        :param seconds: None: for any time.
        :raises TimeoutError: there is none by then.
        """
        if not self._is_there.wait(seconds):
            message = f"it took longer than {seconds:g} s"
            raise TimeoutError(message)
        if error := self._error:
            self._error = None  # else it would refer to itself, by its traceback
            try:
                raise error
            finally:
                del error
        return cast("T", self._value)


class LoopThread:
    """The thread. It ends with the process."""

    def __init__(self) -> None:
        began = Event()
        self._loop: Any = None
        Thread(target=self._run, args=(began,), name="tidings", daemon=True).start()
        began.wait()

    def _run(self, began: Event) -> None:
        hub = gevent.get_hub()
        self._loop = hub.loop
        stays = self._loop.async_()  # a loop without any watcher ends
        stays.start(bool)
        began.set()
        hub.join()

    def start(self, function: Callable[..., T], *values: Any, **options: Any) -> Answer[T]:
        """Call a function in a greenlet of the thread, without waiting."""
        answer = Answer(partial(function, *values, **options))
        self._loop.run_callback_threadsafe(gevent.spawn, answer.run)
        return answer

    def call(self, function: Callable[..., T], *values: Any, **options: Any) -> T:
        """Return what a function returns in a greenlet of the thread, or raise what it raises."""
        return self.start(function, *values, **options).wait()

    def notify(self, function: Callable[[], object]) -> None:
        """Call a function that does not wait soon, in the thread."""
        self._loop.run_callback_threadsafe(function)


class InLoop:
    """An object as other threads use it: its methods run in the loop's thread.

    Its attributes that are values are read as they are.
    """

    def __init__(self, loop: LoopThread, target: Any) -> None:
        self._loop = loop
        self._target = target

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if callable(value):
            return partial(self._loop.call, value)
        is_value = isinstance(value, bool | int | float | str | tuple) or is_dataclass(value)
        return value if is_value or value is None else InLoop(self._loop, value)

    def __len__(self) -> int:
        return self._loop.call(len, self._target)
