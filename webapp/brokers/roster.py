"""Who listens, on all machines that share a log: leases beside the log, and never history in it.

Each process writes down its own readers and lives on by renewing its lease; what a process had
whose lease has run out is dropped by the others. Changes, and what all processes are told to do,
are notices: short, numbered lines that every process follows, and that are soon forgotten.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from time import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..errors import ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CAME, LEFT = "+", "-"  # how the notices about readers begin; `<sign><name> <text>`
TOGETHER = 64 << 10  # bytes of notices that are written, or read, together
KEPT, KEPT_BYTES = 4096, 4 << 20  # of what was written together
MOST_REVOKED = 100_000
MOMENT = 1 / 6  # of a lease, after which it is renewed
LIFE = 2 / 3  # of a lease, after which a process that was silent counts as dead


class Notices(NamedTuple):
    """Notices, and how far one has read with them."""

    notices: list[str]
    upto: int
    whole: bool = True  # False: some before them are no longer there


class PresenceStore(Protocol):
    """What one process has to do with it. Every call blocks, may be made from any greenlet, and
    raises `ServiceUnavailable` when what keeps it cannot be reached.
    """

    def renew(self, changes: Mapping[str, str | None]) -> bool:
        """Live on for a lease, and write down who came, with a text about each, or left (None).

        :returns: False where this process counted as dead, or is new: of its readers only those
            that are among the changes are written down then.
        """

    def retire(self) -> None:
        """Take this process's readers away, and its lease."""

    def subscribers(self) -> list[tuple[str, str]]:
        """Return who listens anywhere, and the text about each."""

    def news(self, after: int | None) -> Notices:
        """Return the next notices after a number, about `TOGETHER` bytes or one, and none when
        there are no more; None: none, only how far they go.
        """

    def post(self, notice: str) -> None:
        """Tell all processes, this one too."""

    def revoke(self, what: str, until: float, notice: str) -> None:
        """Remember what is refused until a time (Unix seconds), and tell all processes.

        :raises Unavailable: as much is remembered as may be.
        """

    def revoked(self) -> list[tuple[str, float]]:
        """Return what is refused, and until when."""

    def revoke_subject(self, subject: str, at: float, oldest: float, notice: str) -> None:
        """Remember when a subject was revoked (Unix seconds), and tell all processes. The latest
        time counts; those that were revoked before `oldest` are forgotten.

        :raises Unavailable: as many are remembered as may be, and this one is not among them.
        """

    def subjects(self) -> list[tuple[str, float]]:
        """Return the subjects that were revoked, and when."""

    def listen(self, heard: Callable[[], None]) -> None:
        """Have `heard` called when there may be news; it may be missed now and then."""

    def close(self) -> None:
        """Let go of everything."""


def full() -> ServiceUnavailable:
    """Return the refusal to remember more tokens that are revoked."""
    detail = f"{MOST_REVOKED:,} revoked tokens are remembered, and that is the limit."
    remedy = "Rotate the key that signed them, and give new ones an earlier exp."
    return ServiceUnavailable(detail, remedy, reason="revocations")


def full_of_subjects() -> ServiceUnavailable:
    """Return the refusal to remember more subjects that are revoked."""
    detail = f"{MOST_REVOKED:,} revoked subjects are remembered, and that is the limit."
    remedy = "Lower TIDINGS_MAX_TOKEN_AGE to the longest life of a token, or rotate the key."
    return ServiceUnavailable(detail, remedy, reason="revocations")


class MemoryPresenceStore:
    """The roster of a hub that is one process."""

    def __init__(self) -> None:
        self._readers: dict[str, str] = {}
        self._notices: deque[str] = deque()
        self._bytes = 0
        self._number = 0
        self._revoked: dict[str, float] = {}
        self._subjects: dict[str, float] = {}
        self._heard: Callable[[], None] | None = None

    def renew(self, changes: Mapping[str, str | None]) -> bool:
        """Write down who came and left; see `Roster.renew`."""
        for name, text in changes.items():
            if text is not None:
                self._readers[name] = text
                self._say(f"{CAME}{name} {text}")
            elif old := self._readers.pop(name, None):
                self._say(f"{LEFT}{name} {old}")
        return True

    def retire(self) -> None:
        """Take all readers away."""
        self.renew(dict.fromkeys(list(self._readers)))

    def subscribers(self) -> list[tuple[str, str]]:
        """Return who listens."""
        return sorted(self._readers.items())

    def news(self, after: int | None) -> Notices:
        """Return the notices after a number."""
        if after is None:
            return Notices([], self._number)
        before = self._number - len(self._notices)  # all that are not kept any more
        found, size = list[str](), 0
        for notice in islice(self._notices, max(0, after - before), None):
            found.append(notice)
            size += len(notice)
            if size >= TOGETHER:
                break
        upto = max(before, min(after, self._number)) + len(found)
        return Notices(found, upto, before <= after <= self._number)

    def post(self, notice: str) -> None:
        """Tell it."""
        self._say(notice)

    def revoke(self, what: str, until: float, notice: str) -> None:
        """Remember what is refused."""
        now = time()
        self._revoked = {it: end for it, end in self._revoked.items() if end > now}
        if what not in self._revoked and len(self._revoked) >= MOST_REVOKED:
            raise full()
        self._revoked[what] = until
        self._say(notice)

    def revoked(self) -> list[tuple[str, float]]:
        """Return what is refused."""
        return list(self._revoked.items())

    def revoke_subject(self, subject: str, at: float, oldest: float, notice: str) -> None:
        """Remember when a subject was revoked."""
        self._subjects = {it: when for it, when in self._subjects.items() if when >= oldest}
        if subject not in self._subjects and len(self._subjects) >= MOST_REVOKED:
            raise full_of_subjects()
        self._subjects[subject] = max(at, self._subjects.get(subject, at))
        self._say(notice)

    def subjects(self) -> list[tuple[str, float]]:
        """Return the subjects that were revoked, and when."""
        return list(self._subjects.items())

    def listen(self, heard: Callable[[], None]) -> None:
        """Have `heard` called at every notice."""
        self._heard = heard

    def close(self) -> None:
        """There is nothing to let go of."""

    def _say(self, notice: str) -> None:
        self._notices.append(notice)
        self._number += 1
        self._bytes += len(notice)
        while len(self._notices) > KEPT or self._bytes > KEPT_BYTES:
            self._bytes -= len(self._notices.popleft())
        if self._heard:
            self._heard()
