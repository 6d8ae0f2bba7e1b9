"""The newest refused request for each reason, of all workers of a machine.

Each worker keeps its own, and adds them every few seconds to a file beside its metrics. Where there
is no folder for metrics, they are in memory.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from contextlib import suppress
from pathlib import Path
from time import time
from typing import Any, NamedTuple

_NAME = "refusals.json"
_MAX_REASONS, _MAX_CHARS, _MAX_FILE_BYTES = 100, 300, 1 << 20
_INTERVAL_S = 1.0  # between two examples of a reason that a worker notes
_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_TOKEN = re.compile(r"eyJ[\w-]+(\.[\w-]*){0,2}")  # a JWT, and the beginning of one


class RefusedRequest(NamedTuple):
    """A request, without its query."""

    time: float
    """Unix seconds."""
    status: int
    method: str
    path: str
    address: str
    detail: str
    """Why it was refused."""


class RecentRefusals:
    """Keeps an example for each reason.

    :param folder: of the metrics; None: there is none.
    """

    def __init__(self, folder: str | None) -> None:
        self._path = Path(folder, _NAME) if folder else None
        self._known: dict[str, RefusedRequest] = {}
        self._unshared: dict[str, RefusedRequest] = {}

    def wants(self, reason: str, now: float) -> bool:
        """Return whether a reason has no example of the last second."""
        found = self._unshared.get(reason)
        return found is None or not 0 <= now - found.time < _INTERVAL_S

    def note(self, reason: str, it: RefusedRequest) -> None:
        """Note an example. Tokens in its texts are left out, and long ones are cut."""
        if reason in self._unshared or len(self._unshared) < _MAX_REASONS:
            texts = (_clean(text) for text in (it.method, it.path, it.address, it.detail))
            self._unshared[reason] = RefusedRequest(it.time, it.status, *texts)

    def share(self) -> None:
        """Let all workers see the examples of this one.

        :raises OSError: the file cannot be written.
        """
        if not self._unshared:
            return
        if self._path is None:
            self._known, self._unshared = _newest(self._known, self._unshared), {}
            return
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | _FLAGS, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = _newest(_decode(os.pread(file, _MAX_FILE_BYTES, 0)), self._unshared)
            os.ftruncate(file, 0)
            os.pwrite(file, json.dumps(found, ensure_ascii=False).encode(errors="replace"), 0)
            self._known, self._unshared = found, {}
        except BlockingIOError:
            return  # another worker does it: the next time
        finally:
            os.close(file)

    def read(self) -> dict[str, RefusedRequest]:
        """Return the newest example for each reason; those of other workers some seconds later."""
        known = self._known if self._path is None else self._read(self._path)
        return _newest(known, self._unshared)

    def _read(self, path: Path) -> dict[str, RefusedRequest]:
        with suppress(OSError):  # there is none yet, or it is no file
            file = os.open(path, os.O_RDONLY | _FLAGS)
            try:
                self._known = _decode(os.pread(file, _MAX_FILE_BYTES, 0)) or self._known
            finally:
                os.close(file)
        return self._known


def _newest(*some: dict[str, RefusedRequest]) -> dict[str, RefusedRequest]:
    """Return the newest example for each reason, and of too many reasons the newest ones."""
    found = sorted((pair for it in some for pair in it.items()), key=lambda pair: pair[1].time)
    return dict(list(dict(found).items())[-_MAX_REASONS:])


def _decode(data: bytes) -> dict[str, RefusedRequest]:
    """Return the examples of a file; those that are damaged are left out."""
    found = dict[str, RefusedRequest]()
    try:
        items: Any = json.loads(data or b"{}").items()
        for reason, it in items:
            at, status, *texts = it
            found[reason] = RefusedRequest(float(at), int(status), *map(str, texts))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return found  # it is being written, or somebody has damaged it
    now = time()
    return {reason: it for reason, it in found.items() if it.time <= now + _INTERVAL_S}


def _clean(text: str) -> str:
    shown = _TOKEN.sub("…", text[: 4 * _MAX_CHARS])[:_MAX_CHARS]
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in shown)
