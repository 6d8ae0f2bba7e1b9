"""How many subscribers ask for each topic, on all workers of a machine.

Nothing is counted until the console asks. For half a minute after that, each worker counts every
five seconds, and writes what it found to a file of its own beside its metrics. Topics are in it as
their hashes, which are the same in all processes that a master forks.
"""

from __future__ import annotations

import json
import os
from array import array
from collections import Counter
from contextlib import suppress
from heapq import nsmallest
from math import inf
from pathlib import Path
from struct import Struct, error
from time import monotonic, time
from typing import TYPE_CHECKING, NamedTuple

from ..monitoring.metrics_folder import subscribers_file
from ..private_files import open_file, replace_file
from ..scheduling import BackgroundSlice, RequestSlice, cooperative

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..scheduling import TimeSlice
    from .delivery.feeds import Feed

_MAX_TOPICS, _MAX_COUNTED_PATTERNS, MAX_PATTERNS = 32_768, 1000, 100
_INTERVAL_S, _ASKED_S = 4.0, 30.0  # the worker's tick comes every five seconds
_LATEST_S = 15.0  # since a worker wrote its file
_ASKED = "subscribers-asked"
_HEAD = Struct("<II?")  # number of topics, bytes of the patterns, whether it is complete
_MAX_FILE_BYTES = 1 << 21


class Counts(NamedTuple):
    """Numbers of subscribers, without the console's own."""

    topics: dict[int, int]
    """The number of subscribers by the hash of a topic that they name exactly."""
    patterns: dict[str, int]
    """The number of subscribers by pattern, the highest first."""
    complete: bool
    """Whether these are all topics."""


class SubscriberCounts:
    """Counts the subscribers of this worker, and adds those of the others.

    :param folder: of the metrics; None: there is only this process.
    :param feeds: of this worker.
    """

    def __init__(self, folder: str | None, feeds: Iterable[Feed]) -> None:
        self._folder = folder
        self._feeds = feeds
        self._own: Counts | None = None
        self._counted_at, self._asked_at = -inf, -inf

    def tick(self) -> None:
        """Count again if the console asked in the last half a minute.

        :raises OSError: the file cannot be written.
        """
        if 0 <= time() - self._asked() < _ASKED_S:
            self._refresh(BackgroundSlice())

    def sum(self, topics: Iterable[str], pids: Iterable[int]) -> tuple[dict[str, int], Counts]:
        """Return the numbers of subscribers of some topics; a topic is missing while its number is
        not known. Also return the patterns of all workers, and whether all of them have counted.

        :param pids: the processes of all workers.
        """
        time_slice = RequestSlice()
        with suppress(OSError):  # the others do not count: their numbers are not known
            self._ask()
        with suppress(OSError):  # they do not know this worker's numbers; its next tick says why
            self._refresh(time_slice)
        others = [self._read(pid) for pid in pids if pid != os.getpid()]
        parts = [it for it in (self._own, *others) if it]
        complete = len(parts) == 1 + len(others)
        found, patterns = Counter[int](), Counter[str]()
        wanted = {hash(topic): topic for topic in topics}
        for part in cooperative(parts, time_slice):
            found.update({it: part.topics[it] for it in wanted.keys() & part.topics.keys()})
            patterns.update(part.patterns)
        is_known = complete and all(it.complete for it in parts)
        numbers = {topic: found[it] for it, topic in wanted.items()} if is_known else {}
        return numbers, Counts({}, _most(patterns), complete)

    def _refresh(self, time_slice: TimeSlice) -> None:
        if monotonic() - self._counted_at < _INTERVAL_S:
            return
        self._counted_at = monotonic()  # at first, for those who ask meanwhile
        self._own = _count(self._feeds, time_slice)
        if self._folder:
            replace_file(self._folder, subscribers_file(os.getpid()), _encode(self._own))

    def _ask(self) -> None:
        self._asked_at = time()
        if self._folder:
            replace_file(self._folder, _ASKED, b"")

    def _asked(self) -> float:
        """Return when a console asked last, in Unix seconds."""
        if self._folder is None:
            return self._asked_at
        with suppress(OSError):  # none has asked yet
            return Path(self._folder, _ASKED).lstat().st_mtime
        return -inf

    def _read(self, pid: int) -> Counts | None:
        """Return what another worker has counted lately."""
        if self._folder is None:
            return None
        with suppress(OSError):  # it has not counted yet, or it is no file
            file = open_file(self._folder, subscribers_file(pid), os.O_RDONLY)
            try:
                is_new = time() - os.fstat(file).st_mtime < _LATEST_S
                return _decode(os.pread(file, _MAX_FILE_BYTES, 0)) if is_new else None
            finally:
                os.close(file)
        return None


def _count(feeds: Iterable[Feed], time_slice: TimeSlice) -> Counts:
    topics, patterns, complete = Counter[int](), Counter[str](), True
    for feed in cooperative(tuple(feeds), time_slice):
        if not feed.is_counted:
            continue
        exact = {hash(topic) for topic in feed.matcher.exact}
        if len(topics) + len(exact) > _MAX_TOPICS:
            complete, exact = False, exact & topics.keys()
        topics.update(dict.fromkeys(exact, feed.subscriber_count))
        for pattern in feed.patterns - feed.matcher.exact:
            if pattern in patterns or len(patterns) < _MAX_COUNTED_PATTERNS:
                patterns[pattern] += feed.subscriber_count
    return Counts(topics, _most(patterns), complete)


def _most(patterns: Counter[str]) -> dict[str, int]:
    return dict(nsmallest(MAX_PATTERNS, patterns.items(), key=lambda it: (-it[1], it[0])))


def _encode(it: Counts) -> bytes:
    patterns = json.dumps(it.patterns).encode()
    head = _HEAD.pack(len(it.topics), len(patterns), it.complete)
    hashes, numbers = array("q", it.topics.keys()), array("I", it.topics.values())
    return b"".join((head, hashes.tobytes(), numbers.tobytes(), patterns))


def _decode(data: bytes) -> Counts | None:
    """Return what a file says; None: it is damaged."""
    try:
        size, patterns_size, complete = _HEAD.unpack_from(data)
        numbers_at = _HEAD.size + 8 * size
        patterns_at = numbers_at + 4 * size
        if len(data) != patterns_at + patterns_size:
            return None
        hashes, numbers = array("q", data[_HEAD.size : numbers_at]), array("I")
        numbers.frombytes(data[numbers_at:patterns_at])
        patterns = json.loads(data[patterns_at:]).items()
        found = {str(it): int(number) for it, number in patterns}
        return Counts(dict(zip(hashes, numbers, strict=True)), found, complete)
    except (error, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
