"""Which subscribers of one process have joined or left since the presence store was written."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from ..brokers.presence_base import NOTICE_BATCH_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger(__name__)

MAX_RECORD_BYTES = 8 << 20  # of all records of one process
_MAX_CLIENT_SHARE = 3 / 4  # of these, for one client, so that it leaves room for others
_MAX_BATCH_CHANGES = 1000


class _ListedRecord(NamedTuple):
    client: str
    size: int  # bytes of the record


class Changes:
    """The changes that are to be written, and how much of the limit the listed subscribers use.

    Without a limit, clients could fill the memory of the presence store.
    """

    def __init__(self) -> None:
        self._joined: dict[str, str] = {}  # records that are to be written
        self._left: dict[str, None] = {}  # subscribers that are to be removed
        self._registered: set[str] = set()  # subscribers that may be in the store
        self._listed: dict[str, _ListedRecord] = {}  # those that are, or will be, in the store
        self._bytes = 0
        self._client_bytes = Counter[str]()
        self._limit_warned = False

    def __len__(self) -> int:
        return len(self._joined) + len(self._left)

    def join(self, name: str, client: str, record: str) -> None:
        """Note that a subscriber joined. Over the limit it is not listed."""
        size = len(record)
        most = MAX_RECORD_BYTES * _MAX_CLIENT_SHARE
        if self._bytes + size > MAX_RECORD_BYTES or self._client_bytes[client] + size > most:
            if not self._limit_warned:
                text = "presence lists no more subscribers: over %d bytes, or %d of one address"
                logger.warning(text, MAX_RECORD_BYTES, most)
            self._limit_warned = True
            return
        # Hysteresis: warn again only after usage fell below a quarter of the limit.
        self._limit_warned = self._limit_warned and self._bytes > MAX_RECORD_BYTES // 4
        self._listed[name] = _ListedRecord(client, size)
        self._bytes += size
        self._client_bytes[client] += size
        self._joined[name] = record

    def leave(self, name: str) -> None:
        """Note that a subscriber left."""
        listed = self._listed.pop(name, None)
        if listed is None:
            return
        self._bytes -= listed.size
        self._client_bytes[listed.client] -= listed.size
        if not self._client_bytes[listed.client]:
            del self._client_bytes[listed.client]
        self._joined.pop(name, None)
        if name in self._registered:
            self._left[name] = None

    def next_batch(self) -> dict[str, str | None]:
        """Remove some changes and return them: subscriber id to record, or None when it left.
        Those who left come first: their removal must not wait until many others have joined.
        """
        batch: dict[str, str | None] = {}
        size = 0
        while self._left and len(batch) < _MAX_BATCH_CHANGES:
            batch[self._left.popitem()[0]] = None
        while self._joined and len(batch) < _MAX_BATCH_CHANGES and size < NOTICE_BATCH_BYTES:
            name = next(iter(self._joined))
            record = batch[name] = self._joined.pop(name)
            size += len(record)
            self._registered.add(name)  # from now on: a write that fails may have been done
        return batch

    def confirm(self, batch: Mapping[str, str | None]) -> None:
        """Note that a batch was written."""
        for name, record in batch.items():
            if record is None:
                self._registered.discard(name)

    def restore(self, batch: Mapping[str, str | None]) -> None:
        """Note that a batch was not written. What has changed since stays changed."""
        for name, record in batch.items():
            if record is None:
                self._left[name] = None
            elif name in self._listed:
                self._joined[name] = record

    def keep_only(self, batch: Mapping[str, str | None]) -> None:
        """Note that the store has lost all subscribers of this process but those of a batch."""
        self._registered &= batch.keys()

    def rejoin(self, name: str, record: str) -> None:
        """Write a subscriber again if the store has lost it."""
        if name in self._listed and name not in self._registered:
            self._joined.setdefault(name, record)
