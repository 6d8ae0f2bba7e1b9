"""Samples of the numbers of all workers of a machine, from the last fifteen minutes.

Each worker tries to take a sample every five seconds, and one of them does. The samples are in a
file beside the workers' metrics, so they outlive a worker. The time of a sample decides its slot in
the file: nothing else says where a sample is, so damaged bytes cost only the samples that they are
in. Where there is no folder for metrics, the samples are in memory.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager, suppress
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from ..private_files import open_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STEP_S = 5
POINTS = 180
"""How many samples the console shows."""
GAUGES = ("subscribers", "memory", "log_events", "log_bytes")
COUNTERS = ("published", "delivered", "refused", "cpu")
SECONDS_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""The upper bounds of the buckets of histograms of seconds; one more bucket has all above."""

_NAME = "samples"
_SLOTS = POINTS + 1  # a rate needs the sample before
_VALUES = len(GAUGES) + len(COUNTERS) + len(SECONDS_BOUNDS) + 1
_SAMPLE, _BEGAN, _CHECKSUM = Struct(f"<Qd{_VALUES}d"), Struct("<d"), Struct("<I")
_HEAD_BYTES = _BEGAN.size + _CHECKSUM.size
_SLOT_BYTES = _SAMPLE.size + _CHECKSUM.size
_FILE_BYTES = _HEAD_BYTES + _SLOTS * _SLOT_BYTES


class Sample(NamedTuple):
    """The numbers at one moment. NaN: a number is not known."""

    tick: int
    """Its time in steps since 1970."""
    time: float
    """Its exact time, in Unix seconds."""
    gauges: tuple[float, ...]
    """In the order of `GAUGES`."""
    counters: tuple[float, ...]
    """Since the hub began, in the order of `COUNTERS`."""
    fanout: tuple[float, ...]
    """For each bucket of `fanout_seconds`, how many values were in it or below."""


class Samples:
    """The samples of the hub that this process is a part of.

    :param now: Unix seconds.
    """

    def __init__(self, folder: str | None, now: float) -> None:
        self._folder = folder
        self._memory = bytearray(_FILE_BYTES)
        self._memory[:_HEAD_BYTES] = _with_checksum(_BEGAN.pack(now))

    def add(self, tick: int, now: float, take: Callable[[int], Sample]) -> None:
        """Take the sample of a tick, unless another worker has taken it or does.

        :raises OSError: the file cannot be written.
        """
        start = _slot(tick)
        with self._locked() as file:
            if file is None:
                self._memory[start : start + _SLOT_BYTES] = _encode(take(tick))
                return
            if os.fstat(file).st_size == 0:
                os.pwrite(file, _with_checksum(_BEGAN.pack(now)), 0)
            found = _decode(os.pread(file, _SLOT_BYTES, start))
            if found is None or found.tick != tick:
                os.pwrite(file, _encode(take(tick)), start)

    @contextmanager
    def _locked(self) -> Iterator[int | None]:
        """Open and lock the file; None: the samples are in memory.

        :raises BlockingIOError: another worker takes the sample.
        """
        if self._folder is None:
            yield None
            return
        file = open_file(self._folder, _NAME, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield file
        finally:
            os.close(file)

    def read(self) -> dict[int, Sample]:
        """Return the samples by their ticks."""
        data, found = self._read(), dict[int, Sample]()
        for start in range(_HEAD_BYTES, len(data), _SLOT_BYTES):
            sample = _decode(data[start : start + _SLOT_BYTES])
            if sample and _slot(sample.tick) == start:
                found[sample.tick] = sample
        return found

    def began(self) -> float | None:
        """Return when the hub began, in Unix seconds; None: that is not known."""
        head = _checked(self._read()[:_HEAD_BYTES])
        return _BEGAN.unpack(head)[0] if head else None

    def _read(self) -> bytes:
        if self._folder is None:
            return bytes(self._memory)
        with suppress(OSError):
            file = open_file(self._folder, _NAME, os.O_RDONLY)
            try:
                return os.pread(file, _FILE_BYTES, 0)
            finally:
                os.close(file)
        return b""


def _slot(tick: int) -> int:
    return _HEAD_BYTES + tick % _SLOTS * _SLOT_BYTES


def _encode(it: Sample) -> bytes:
    return _with_checksum(_SAMPLE.pack(it.tick, it.time, *it.gauges, *it.counters, *it.fanout))


def _decode(data: bytes) -> Sample | None:
    if (content := _checked(data)) is None or len(content) != _SAMPLE.size:
        return None
    tick, time, *values = _SAMPLE.unpack(content)
    first, last = len(GAUGES), len(GAUGES) + len(COUNTERS)
    return Sample(
        tick, time, tuple(values[:first]), tuple(values[first:last]), tuple(values[last:])
    )


def _with_checksum(content: bytes) -> bytes:
    return content + _CHECKSUM.pack(crc32(content, len(content)))


def _checked(data: bytes) -> bytes | None:
    """Return the content; None: it is damaged, missing, or of another version of the hub."""
    content, checksum = data[: -_CHECKSUM.size], data[-_CHECKSUM.size :]
    is_right = content and _CHECKSUM.pack(crc32(content, len(content))) == checksum
    return content if is_right else None
