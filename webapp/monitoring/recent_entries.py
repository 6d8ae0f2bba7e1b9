"""The newest entries of all workers of a machine, in a small file beside their metrics.

Each worker keeps its own, and adds them to the file some time later. Where there is no folder for
metrics, they are in memory.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from contextlib import suppress
from time import time
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, get_type_hints

from ..private_files import open_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MAX_FILE_BYTES = 1 << 20
_MAX_AHEAD_S = 1.0  # of the clock
_MAX_LISTED_TEXTS = 5  # of a list
_SECRET = re.compile(
    r"eyJ[\w-]+(\.[\w-]*){0,2}"  # a JWT, and the beginning of one
    r"|(?<=://)[^/\s]+@"  # user and password in a URL
    r"|(?<=Bearer )(?!TOKEN;)\S+"  # but for the word in a remedy
)


class Entry(Protocol):
    """A named tuple of numbers, texts, and tuples of texts."""

    @property
    def time(self) -> float:
        """Unix seconds."""

    def __iter__(self) -> Iterator[Any]: ...


E = TypeVar("E", bound=Entry)


class RecentEntries(Generic[E]):
    """Keeps the newest entry for each key.

    :param kind: the class of the entries.
    :param name: of the file.
    :param find_folder: returns the folder of the metrics; None: there is none.
    :param limit: how many entries are kept.
    :param max_chars: of each text. Of a tuple, the first five texts are kept.
    """

    def __init__(
        self,
        kind: type[E],
        name: str,
        find_folder: Callable[[], str | None],
        limit: int,
        max_chars: int,
    ) -> None:
        self._kind: Callable[..., E] = kind
        self._types = tuple(get_type_hints(kind).values())
        self._name, self._find_folder = name, find_folder
        self._limit, self._max_chars = limit, max_chars
        self._shared: dict[str, E] = {}  # as they were read the last time
        self._unshared: dict[str, E] = {}

    def note(self, key: str, it: E) -> None:
        """Note an entry. Secrets in its texts are left out, and long texts are cut."""
        self._unshared.pop(key, None)
        self._unshared[key] = self._kind(*map(self._cleaned, it))
        if len(self._unshared) > self._limit:
            for other in self._unshared.keys() - self._to_keep(dict(self._unshared)):
                self._unshared.pop(other, None)

    def share(self) -> None:
        """Let all workers see the entries of this one.

        :raises OSError: the file cannot be written.
        """
        if not self._unshared or (folder := self._find_folder()) is None:
            return
        file = open_file(folder, self._name, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            added = dict(self._unshared)
            found = self._newest(self._decode(os.pread(file, _MAX_FILE_BYTES, 0)), added)
            data = json.dumps(found, ensure_ascii=False).encode(errors="replace")
            os.ftruncate(file, 0)
            os.pwrite(file, data, 0)
            self._shared = found
            for key, it in added.items():  # another thread may have noted others meanwhile
                if self._unshared.get(key) is it:
                    del self._unshared[key]
        except BlockingIOError:
            return  # another worker writes: the next time
        finally:
            os.close(file)

    def read(self) -> dict[str, E]:
        """Return the newest entries, the oldest first. Those of others may be some seconds late."""
        with suppress(OSError):  # there is no file yet, or it is none
            if folder := self._find_folder():
                self._shared = self._read(folder) or self._shared
        return self._newest(self._shared, dict(self._unshared))

    def _read(self, folder: str) -> dict[str, E]:
        file = open_file(folder, self._name, os.O_RDONLY)
        try:
            return self._decode(os.pread(file, _MAX_FILE_BYTES, 0))
        finally:
            os.close(file)

    def _newest(self, *some: dict[str, E]) -> dict[str, E]:
        found = dict[str, E]()
        for key, it in sorted((pair for part in some for pair in part.items()), key=_time):
            found.pop(key, None)
            found[key] = it
        chosen = self._to_keep(found)
        return {key: it for key, it in found.items() if key in chosen}

    def _to_keep(self, entries: dict[str, E]) -> set[str]:
        """Return the keys of the entries that are kept.

        :param entries: the oldest first.
        """
        return set(list(entries)[-self._limit :])

    def _decode(self, data: bytes) -> dict[str, E]:
        """Return the entries of a file, up to one that is damaged."""
        found = dict[str, E]()
        try:
            items: Any = json.loads(data or b"{}").items()
            for key, values in items:
                pairs = zip(self._types, values, strict=True)
                found[key] = self._kind(*(self._value(kind, value) for kind, value in pairs))
        except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
            pass  # it is being written, or somebody has damaged it
        latest = time() + _MAX_AHEAD_S
        return {key: it for key, it in found.items() if it.time <= latest}

    def _value(self, kind: type, value: Any) -> Any:
        if kind is str:
            return str(value)[: self._max_chars]
        if kind in {int, float}:
            return kind(value)
        return tuple(str(it)[: self._max_chars] for it in list(value)[:_MAX_LISTED_TEXTS])

    def _cleaned(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(self._clean, value[:_MAX_LISTED_TEXTS]))
        return self._clean(value) if isinstance(value, str) else value

    def _clean(self, text: str) -> str:
        shown = _SECRET.sub("…", text[: 4 * self._max_chars])[: self._max_chars]
        return "".join(letter if letter.isprintable() else "\ufffd" for letter in shown)


def _time(pair: tuple[str, Entry]) -> float:
    return pair[1].time
