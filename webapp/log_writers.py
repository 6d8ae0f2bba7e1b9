"""Append to event logs in a process that serves no subscribers: a task of Celery, or a shell."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from .brokers import connect, has_gevent

if TYPE_CHECKING:
    from .core.events import Draft, Event
    from .hub.hub import Hub


class _LogWriter:
    """Appends to one event log, for any thread."""

    def __init__(self, hub: Hub) -> None:
        self._broker = connect(hub.settings)
        # gevent's objects in the broker belong to one thread.
        self._thread = None if has_gevent() else ThreadPoolExecutor(1, "tidings")

    def append(self, drafts: list[Draft]) -> list[Event]:
        """Append events."""
        if self._thread is None:
            return self._broker.append(drafts)
        return self._thread.submit(self._broker.append, drafts).result()


_writers: WeakKeyDictionary[Hub, _LogWriter]
_lock: Lock


def _forget() -> None:
    """Begin without writers. A fork must not use its parent's: it has not their threads, and SQLite
    forbids to use a connection in two processes.
    """
    global _writers, _lock
    _writers, _lock = WeakKeyDictionary(), Lock()


_forget()
os.register_at_fork(after_in_child=_forget)


def append(hub: Hub, drafts: list[Draft]) -> list[Event]:
    """Append events to the event log of a hub that this process does not serve."""
    with _lock:
        if hub not in _writers:
            _writers[hub] = _LogWriter(hub)
        writer = _writers[hub]
    return writer.append(drafts)
