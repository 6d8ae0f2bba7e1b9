"""Use event logs in a process that serves no subscribers: a task of Celery, or a shell."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakKeyDictionary

from ..brokers import connect, connect_presence
from ..core.events import EventId
from ..core.window import Window
from ..hub.reads.log_reader import LogReader
from ..loop_thread import has_gevent

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..brokers.presence_base import PresenceStore
    from ..hub.hub import Hub

    T = TypeVar("T")


class LogWriter:
    """Uses one event log, for any thread."""

    def __init__(self, hub: Hub) -> None:
        self._settings = hub.settings
        self.broker = connect(hub.settings)
        # gevent's objects in the broker belong to one thread.
        self._thread = None if has_gevent() else ThreadPoolExecutor(1, "tidings")

    @cached_property
    def reader(self) -> LogReader:
        """Reads the event log, without a window."""
        return LogReader(Window(EventId(0, 0), 1, 1), self.broker, self._settings.max_replay_bytes)

    @cached_property
    def presence(self) -> PresenceStore:
        """The presence store beside the event log, which wakes the processes that follow it."""
        store = connect_presence(self._settings, self.broker)
        store.on_notice(lambda: None)
        return store

    def run(self, use: Callable[[LogWriter], T]) -> T:
        """Call a function with this."""
        return use(self) if self._thread is None else self._thread.submit(use, self).result()


_writers: WeakKeyDictionary[Hub, LogWriter]
_lock: Lock


def _forget() -> None:
    """Begin without writers. A fork must not use its parent's: it has not their threads, and SQLite
    forbids to use a connection in two processes.
    """
    global _writers, _lock
    _writers, _lock = WeakKeyDictionary(), Lock()


_forget()
os.register_at_fork(after_in_child=_forget)


def run(hub: Hub, use: Callable[[LogWriter], T]) -> T:
    """Use the event log of a hub that this process does not serve."""
    with _lock:
        if hub not in _writers:
            _writers[hub] = LogWriter(hub)
        writer = _writers[hub]
    return writer.run(use)
