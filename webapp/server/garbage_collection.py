"""When a worker collects garbage, and returns memory to the system.

Python's cyclic garbage collector looks at young objects often, and now and then at all objects.
Looking at all takes a third of a second with 10,000 subscribers, in which nobody is served, and
finds nothing: what the hub and its subscribers leave behind has no reference cycles. So a worker

- never looks at the objects that were there when it began to serve;
- looks at young objects as usual;
- looks at all objects once a minute, and only while few connections are open;
- returns freed memory to the system then, and after many connections have ended.
"""

from __future__ import annotations

import gc

from ..free_memory import return_free_memory

_FULL_COLLECTION_TICKS = 60
_FEW_CONNECTIONS = 500  # with which a full collection takes a few milliseconds
_YOUNG_OBJECTS = 5_000  # more of them than were freed begin a collection of young objects
_YOUNG_COLLECTIONS = 5  # after which those that survived are looked at again
_UNREACHED_OBJECTS = 1 << 30
_ENDED_CONNECTIONS = 200  # fewer than there were: the C library keeps megabytes of theirs


class GarbageCollection:
    """Collects by the rules above; `tick` is to be called once a second."""

    def __init__(self) -> None:
        self._ticks = 0
        self._connections = 0
        self._peak_connections = 0  # since memory was returned

    def begin(self) -> None:
        """Free what the start left behind, and exempt what is there now."""
        gc.collect()
        gc.freeze()
        gc.set_threshold(_YOUNG_OBJECTS, _YOUNG_COLLECTIONS, _UNREACHED_OBJECTS)

    def tick(self, connections: int) -> None:
        """Collect all objects if that is due and quick. Return memory once many connections have
        ended and their number falls no more.

        :param connections: how many are open.
        """
        self._ticks += 1
        if self._ticks >= _FULL_COLLECTION_TICKS and connections < _FEW_CONNECTIONS:
            self._ticks = 0
            gc.collect()
            return_free_memory()
        ended = self._peak_connections - connections
        if connections >= self._connections and ended >= _ENDED_CONNECTIONS:
            self._peak_connections = connections
            return_free_memory()
        self._connections = connections
        self._peak_connections = max(self._peak_connections, connections)
