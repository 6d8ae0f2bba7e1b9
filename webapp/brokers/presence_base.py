"""The interface of a presence store: the subscribers of all processes that share an event log.

Each process stores its own subscribers and renews a lease. The other processes drop the
subscribers of a process whose lease has expired. Notices are short, numbered lines that every
process follows: who joined or left, and what all processes are to do. They are kept for a short
while only, and are never part of the event log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..errors import ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

JOINED, LEFT = "+", "-"
"""The first character of a notice about a subscriber: `<sign><subscriber id> <record>`."""
NOTICE_BATCH_BYTES = 64 << 10
"""About how many bytes of notices are written or read together."""
MAX_NOTICES, MAX_NOTICE_BYTES = 4096, 4 << 20
"""How many batches of notices are kept, and how many bytes of them."""
MAX_REVOKED = 100_000
RENEW_AFTER = 1 / 6
"""The part of a lease after which it is renewed."""
LEASE_FRACTION = 2 / 3
"""The part of a lease after which a silent process counts as dead. The rest is for noticing it."""


def batches(notices: Iterable[str]) -> Iterator[list[str]]:
    """Yield notices in batches of about `NOTICE_BATCH_BYTES`, or of one notice."""
    batch: list[str] = []
    size = 0
    for notice in notices:
        batch.append(notice)
        size += len(notice)
        if size >= NOTICE_BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class Notices(NamedTuple):
    """Notices, in order."""

    notices: list[str]
    last_number: int  # what to ask for the next ones with
    complete: bool = True  # False: some before these are no longer kept


class PresenceStore(Protocol):
    """The store as one process sees it. Every call blocks, may be made from any greenlet, and
    raises `ServiceUnavailable` when the store cannot be reached.
    """

    def heartbeat(self, changes: Mapping[str, str | None]) -> bool:
        """Renew this process's lease and store changes: subscriber id to JSON record, or None
        when it left.

        :returns: False if there was no lease, or it had expired: only `changes` are stored then,
            so register all other subscribers again.
        """

    def deregister(self) -> None:
        """Remove this process's subscribers and its lease."""

    def subscribers(self, text: str = "") -> list[tuple[str, str]]:
        """Return the subscribers of all processes, sorted: the id and the record of each.

        :param text: those whose record does not have it may be left out.
        """

    def notices_after(self, number: int | None) -> Notices:
        """Return the next notices after a number: about `NOTICE_BATCH_BYTES` or one notice; none
        when there are no more. For None, return only the number of the newest.
        """

    def broadcast(self, notice: str) -> None:
        """Send a notice to all processes, this one included."""

    def on_notice(self, callback: Callable[[], None]) -> None:
        """Call `callback` when there may be new notices. A call may be missed now and then."""

    def revoke(self, what: str, until: float, notice: str) -> None:
        """Store a revoked token until a time (Unix seconds), and send a notice.

        :raises ServiceUnavailable: `MAX_REVOKED` tokens are stored already.
        """

    def revoked(self) -> list[tuple[str, float]]:
        """Return the revoked tokens, and until when each is stored."""

    def revoke_subject(self, subject: str, at: float, oldest: float, notice: str) -> None:
        """Store when a subject was revoked (Unix seconds), and send a notice. The latest time
        counts. Subjects that were revoked before `oldest` are removed.

        :raises ServiceUnavailable: `MAX_REVOKED` other subjects are stored already.
        """

    def subjects(self) -> list[tuple[str, float]]:
        """Return the revoked subjects, and when each was revoked."""

    def close(self) -> None:
        """Release all resources."""


def too_many_tokens() -> ServiceUnavailable:
    """Return the refusal to revoke one more token."""
    detail = f"{MAX_REVOKED:,} revoked tokens are stored, and that is the limit."
    remedy = "Rotate the key that signed them, and give new ones an earlier exp."
    return ServiceUnavailable(detail, remedy, reason="revocations")


def too_many_subjects() -> ServiceUnavailable:
    """Return the refusal to revoke one more subject."""
    detail = f"{MAX_REVOKED:,} revoked subjects are stored, and that is the limit."
    remedy = "Lower TIDINGS_MAX_TOKEN_AGE to the longest life of a token, or rotate the key."
    return ServiceUnavailable(detail, remedy, reason="revocations")
