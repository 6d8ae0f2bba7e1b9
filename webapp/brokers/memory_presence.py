"""The presence store of a hub that is one process."""

from __future__ import annotations

from collections import deque
from itertools import islice
from time import time
from typing import TYPE_CHECKING

from .presence_base import (
    JOINED,
    LEFT,
    MAX_NOTICE_BYTES,
    MAX_NOTICES,
    MAX_REVOKED,
    Notices,
    batches,
    too_many_subjects,
    too_many_tokens,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class MemoryPresenceStore:
    """Subscribers, notices and revocations in memory. See `PresenceStore`."""

    def __init__(self) -> None:
        self._subscribers: dict[str, str] = {}
        self._notices: deque[str] = deque()
        self._notice_bytes = 0
        self._last_number = 0
        self._revoked: dict[str, float] = {}
        self._subjects: dict[str, float] = {}
        self._callback: Callable[[], None] | None = None

    def heartbeat(self, changes: Mapping[str, str | None]) -> bool:
        """Store changes; there is no lease that could expire."""
        for name, record in changes.items():
            if record is not None:
                self._subscribers[name] = record
                self.broadcast(f"{JOINED}{name} {record}")
            elif old := self._subscribers.pop(name, None):
                self.broadcast(f"{LEFT}{name} {old}")
        return True

    def deregister(self) -> None:
        """Remove all subscribers."""
        self.heartbeat(dict.fromkeys(self._subscribers))

    def subscribers(self, text: str = "") -> list[tuple[str, str]]:  # noqa: ARG002 - not needed
        """Return all subscribers, sorted."""
        return sorted(self._subscribers.items())

    def notices_after(self, number: int | None) -> Notices:
        """Return the next notices after a number."""
        if number is None:
            return Notices([], self._last_number)
        dropped = self._last_number - len(self._notices)
        notices = next(batches(islice(self._notices, max(0, number - dropped), None)), [])
        last = max(dropped, min(number, self._last_number)) + len(notices)
        return Notices(notices, last, dropped <= number <= self._last_number)

    def broadcast(self, notice: str) -> None:
        """Add a notice."""
        self._notices.append(notice)
        self._last_number += 1
        self._notice_bytes += len(notice)
        while len(self._notices) > MAX_NOTICES or self._notice_bytes > MAX_NOTICE_BYTES:
            self._notice_bytes -= len(self._notices.popleft())
        if self._callback:
            self._callback()

    def on_notice(self, callback: Callable[[], None]) -> None:
        """Call `callback` at every notice."""
        self._callback = callback

    def revoke(self, what: str, until: float, notice: str) -> None:
        """Store a revoked token until a time."""
        now = time()
        self._revoked = {it: end for it, end in self._revoked.items() if end > now}
        if what not in self._revoked and len(self._revoked) >= MAX_REVOKED:
            raise too_many_tokens()
        self._revoked[what] = until
        self.broadcast(notice)

    def revoked(self) -> list[tuple[str, float]]:
        """Return the revoked tokens."""
        return list(self._revoked.items())

    def revoke_subject(self, subject: str, at: float, oldest: float, notice: str) -> None:
        """Store when a subject was revoked."""
        self._subjects = {it: when for it, when in self._subjects.items() if when >= oldest}
        if subject not in self._subjects and len(self._subjects) >= MAX_REVOKED:
            raise too_many_subjects()
        self._subjects[subject] = max(at, self._subjects.get(subject, at))
        self.broadcast(notice)

    def subjects(self) -> list[tuple[str, float]]:
        """Return the revoked subjects."""
        return list(self._subjects.items())

    def close(self) -> None:
        """Do nothing: there is no resource."""
