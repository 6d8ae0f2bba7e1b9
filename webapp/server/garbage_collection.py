"""When Python's cyclic garbage collector runs in a worker.

The collector looks at young objects often, and now and then at all objects. Looking at all takes a
third of a second with 10,000 subscribers, in which nobody is served, and finds nothing: what the
hub and its subscribers leave behind has no reference cycles. So a worker

- never looks at the objects that were there when it began to serve;
- looks at young objects as usual;
- looks at all objects once a minute, and only while few connections are open.
"""

from __future__ import annotations

import gc

_FULL_COLLECTION_TICKS = 60
_FEW_CONNECTIONS = 500  # with which a full collection takes a few milliseconds
_YOUNG_OBJECTS = 5_000  # more of them than were freed begin a collection of young objects
_YOUNG_COLLECTIONS = 5  # after which those that survived are looked at again
_NEVER = 1 << 30


class GarbageCollection:
    """Collects by the rules above; `tick` is to be called once a second."""

    def __init__(self) -> None:
        self._ticks = 0

    def begin(self) -> None:
        """Free what the start left behind, and exempt what is there now."""
        gc.collect()
        gc.freeze()
        gc.set_threshold(_YOUNG_OBJECTS, _YOUNG_COLLECTIONS, _NEVER)

    def tick(self, connections: int) -> None:
        """Collect all objects if that is due and quick.

        :param connections: how many are open.
        """
        self._ticks += 1
        if self._ticks >= _FULL_COLLECTION_TICKS and connections < _FEW_CONNECTIONS:
            self._ticks = 0
            gc.collect()
