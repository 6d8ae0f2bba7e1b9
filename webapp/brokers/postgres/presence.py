"""The presence store of many machines: beside the event log in the same database, over its
connections.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from ..presence_base import (
    LEASE_FRACTION,
    MAX_NOTICE_BYTES,
    MAX_NOTICES,
    MAX_REVOKED,
    Notices,
    too_many_subjects,
    too_many_tokens,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .broker import PostgresBroker

_MAX_DROP_CALLS = 20  # calls at one heartbeat, each for some subscribers of processes that ended
_BOUNDS = (MAX_NOTICES, MAX_NOTICE_BYTES)


class PostgresPresenceStore:
    """Subscribers, notices and revocations in a database. See `PresenceStore`.

    :param lease: in seconds, after which the subscribers of a killed process are dropped.
    """

    def __init__(self, broker: PostgresBroker, lease: float) -> None:
        self._broker = broker
        self._lease = lease * LEASE_FRACTION
        self._owner = secrets.token_hex(8)

    def heartbeat(self, changes: Mapping[str, str | None]) -> bool:
        """Renew this process's lease and store changes; see `PresenceStore.heartbeat`."""
        gone = [name for name, record in changes.items() if record is None]
        joined = {name: record for name, record in changes.items() if record is not None}
        values = self._owner, self._lease, list(joined), list(joined.values()), gone, *_BOUNDS
        marks = "%s::text, %s::float8, %s::text[], %s::text[], %s::text[], %s::integer, %s::bigint"
        known = self._value(f"SELECT tidings.heartbeat({marks})", values)
        for _ in range(_MAX_DROP_CALLS):
            if not self._drop(None):
                break
        return bool(known)

    def deregister(self) -> None:
        """Remove this process's subscribers."""
        while self._drop(self._owner):
            pass  # some at a time

    def subscribers(self, text: str = "") -> list[tuple[str, str]]:
        """Return the subscribers of all processes on all machines, with `text` in their records."""
        found = list[tuple[str, str]]()
        query = "SELECT * FROM tidings.subscribers(%s::text, %s::text)"
        while page := self._rows(query, (found[-1][0] if found else "", text)):
            found += page
        return found

    def notices_after(self, number: int | None) -> Notices:
        """Return the next notices after a number."""
        start = -1 if number is None else number
        query = "SELECT * FROM tidings.notices_after(%s::bigint)"
        (newest, oldest), *batches = self._rows(query, (start,))
        if number is None:
            return Notices([], newest)
        if number > newest:
            return Notices([], 0, complete=False)  # of another database
        notices = [line for _, lines in batches for line in lines.split("\n")]
        last = batches[-1][0] if batches else number
        return Notices(notices, last, number == newest or int(oldest or 0) <= number + 1)

    def broadcast(self, notice: str) -> None:
        """Send a notice to all processes."""
        query = "SELECT tidings.add_notices(%s::text[], %s::integer, %s::bigint)"
        self._rows(query, ([notice], *_BOUNDS))

    def on_notice(self, callback: Callable[[], None]) -> None:
        """Call `callback` at new notices, while this process follows the event log."""
        self._broker.on_notice = callback

    def revoke(self, what: str, until: float, notice: str) -> None:
        """Store a revoked token until a time, and send a notice."""
        marks = "%s::text, %s::float8, %s::integer, %s::text, %s::integer, %s::bigint"
        values = what, until, MAX_REVOKED, notice, *_BOUNDS
        if not self._value(f"SELECT tidings.revoke_token({marks})", values):
            raise too_many_tokens()

    def revoked(self) -> list[tuple[str, float]]:
        """Return the revoked tokens, and until when each is stored."""
        return self._rows(
            "SELECT token, extract(epoch FROM until)::float8 FROM tidings.revoked_token"
        )

    def revoke_subject(self, subject: str, at: float, oldest: float, notice: str) -> None:
        """Store when a subject was revoked, and send a notice."""
        marks = "%s::text, %s::float8, %s::float8, %s::integer, %s::text, %s::integer, %s::bigint"
        values = subject, at, oldest, MAX_REVOKED, notice, *_BOUNDS
        if not self._value(f"SELECT tidings.revoke_subject({marks})", values):
            raise too_many_subjects()

    def subjects(self) -> list[tuple[str, float]]:
        """Return the revoked subjects, and when each was revoked."""
        return self._rows(
            "SELECT subject, extract(epoch FROM at)::float8 FROM tidings.revoked_subject"
        )

    def close(self) -> None:
        """Do nothing: the broker closes the connections."""

    def _drop(self, owner: str | None) -> bool:
        query = "SELECT tidings.drop_process(%s::text, %s::integer, %s::bigint)"
        return bool(self._value(query, (owner, *_BOUNDS)))

    def _value(self, query: str, values: tuple[Any, ...]) -> Any:
        [(value,)] = self._rows(query, values)
        return value

    def _rows(self, query: str, values: tuple[Any, ...] = ()) -> list[Any]:
        return self._broker.reader.call(query, values)
