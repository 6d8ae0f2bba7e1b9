"""What one process has yet to write down of its subscribers: who came, and who left."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from ..brokers.presence_base import NOTICE_BATCH_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger(__name__)

MOST_BYTES = 8 << 20  # of what one process writes down
_MOST_OF_ONE = 3 / 4  # of these, that one client has: a stranger leaves room for others
_WRITTEN = 1000  # changes at once


class _Listed(NamedTuple):
    """What a subscriber takes of the room."""

    client: str
    size: int  # bytes


class Changes:
    """The changes that wait, and the room for those that are listed: strangers would fill the
    event log's server.
    """

    def __init__(self) -> None:
        self._came: dict[str, str] = {}
        self._left: dict[str, None] = {}
        self._written: set[str] = set()  # they may be
        self._listed: dict[str, _Listed] = {}  # or soon will be
        self._bytes = 0
        self._bytes_of = Counter[str]()  # by client
        self._overfull = False

    def __len__(self) -> int:
        return len(self._came) + len(self._left)

    def came(self, name: str, client: str, text: str) -> None:
        """Note that a subscriber came, unless there is no room for it."""
        size = len(text)
        most = MOST_BYTES * _MOST_OF_ONE
        if self._bytes + size > MOST_BYTES or self._bytes_of[client] + size > most:
            if not self._overfull:
                told = "who listens is over %d bytes, or %d of one address: others are not listed"
                logger.warning(told, MOST_BYTES, most)
            self._overfull = True
            return
        # At the limit each one that leaves makes room for one: that is no news.
        self._overfull = self._overfull and self._bytes > MOST_BYTES // 4
        self._listed[name] = _Listed(client, size)
        self._bytes += size
        self._bytes_of[client] += size
        self._came[name] = text

    def left(self, name: str) -> None:
        """Note that a subscriber left."""
        listed = self._listed.pop(name, None)
        if listed is None:
            return
        self._bytes -= listed.size
        self._bytes_of[listed.client] -= listed.size
        if not self._bytes_of[listed.client]:
            del self._bytes_of[listed.client]
        self._came.pop(name, None)
        if name in self._written:
            self._left[name] = None

    def take(self) -> dict[str, str | None]:
        """Return some changes, to be written together: those who left first, since they are to be
        forgotten soon, however many come.
        """
        taken: dict[str, str | None] = {}
        size = 0
        while self._left and len(taken) < _WRITTEN:
            taken[self._left.popitem()[0]] = None
        while self._came and len(taken) < _WRITTEN and size < NOTICE_BATCH_BYTES:
            name = next(iter(self._came))
            text = taken[name] = self._came.pop(name)
            size += len(text)
            self._written.add(name)  # it may be, from now on
        return taken

    def settle(self, changes: Mapping[str, str | None]) -> None:
        """Note that some changes were written."""
        for name, text in changes.items():
            if text is None:
                self._written.discard(name)

    def restore(self, changes: Mapping[str, str | None]) -> None:
        """Note that some changes were not written; what changed since counts."""
        for name, text in changes.items():
            if text is None:
                self._left[name] = None
            elif name in self._listed:
                self._came[name] = text

    def lose(self, kept: Mapping[str, str | None]) -> None:
        """Note that all that was written is gone, but for some changes."""
        self._written &= kept.keys()

    def again(self, name: str, text: str) -> None:
        """Write a subscriber down that should be, and is not any more."""
        if name in self._listed and name not in self._written:
            self._came.setdefault(name, text)
