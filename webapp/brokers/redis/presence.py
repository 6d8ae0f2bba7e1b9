"""The presence store of many machines: beside the event log in Redis or Valkey, over its
connections.
"""

from __future__ import annotations

import secrets
from time import time
from typing import TYPE_CHECKING, Any

import gevent

from ..presence_base import (
    LEASE_FRACTION,
    MAX_REVOKED,
    Notices,
    too_many_subjects,
    too_many_tokens,
)
from .scripts import Script, ScriptCall

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from .client import RedisClient

_NOTICES = "{tidings}:notices"
_KEYS = ("{tidings}:processes", _NOTICES, "{tidings}:revoked", "{tidings}:subjects")
_MAX_DROP_CALLS = 20  # calls at one heartbeat, each for some subscribers of processes that ended
_DROP_PAUSE_S = 0.02  # between two of them: other processes read the notices meanwhile
_SCRIPT = Script(("common.lua", "presence.lua"), _KEYS)


class RedisPresenceStore:
    """Subscribers, notices and revocations on a server. See `PresenceStore`.

    :param lease: in seconds, after which the subscribers of a killed process are dropped.
    """

    def __init__(self, client: RedisClient, lease: float) -> None:
        self._client = client
        self._lease_ms = str(round(lease * LEASE_FRACTION * 1000))
        self._owner = secrets.token_hex(8)
        self._callback: Callable[[], None] | None = None
        self._moved = False

    def heartbeat(self, changes: Mapping[str, str | None]) -> bool:
        """Renew this process's lease and store changes; see `PresenceStore.heartbeat`."""
        pairs = [part for name, record in changes.items() for part in (name, record or "")]
        known, more = self._write("heartbeat", self._owner, self._lease_ms, *pairs)
        for _ in range(_MAX_DROP_CALLS):
            if not more:
                break
            gevent.sleep(_DROP_PAUSE_S)
            more = self._write("drop_expired")
        return bool(known)

    def deregister(self) -> None:
        """Remove this process's subscribers."""
        while self._write("deregister", self._owner):
            pass  # some at a time

    def subscribers(self, text: str = "") -> list[tuple[str, str]]:
        """Return the subscribers of all processes on all machines, with `text` in their records."""
        found: dict[str, str] = {}
        for owner in self._read("owners"):
            for name, record in self._pages("subscribers", _text(owner), rest=text):
                found[_text(name)] = _text(record)
        return sorted(found.items())

    def notices_after(self, number: int | None) -> Notices:
        """Return the next notices after a number. Wait for those after them from now on."""
        start = "" if number is None else str(number)
        first, newest, batches = self._read("notices_after", start)
        if self._callback:
            self._client.watch(_NOTICES, _text(newest), self._callback)
        if not newest.startswith(b"0-"):  # another program's: the next notice starts again
            return Notices([], number or 0)
        last = _number(newest)
        notices = [line for lines in batches for line in _text(lines).split("\n")]
        complete = number in {None, last} or (
            first is not None and _number(first) - 1 <= (number or 0) < last
        )
        return Notices(notices, last, complete)

    def broadcast(self, notice: str) -> None:
        """Send a notice to all processes."""
        self._write("broadcast", notice)

    def on_notice(self, callback: Callable[[], None]) -> None:
        """Call `callback` at new notices, while this process follows the event log."""
        self._callback = callback
        self.notices_after(None)  # this begins to wait

    def revoke(self, what: str, until: float, notice: str) -> None:
        """Store a revoked token until a time, and send a notice."""
        if not self._write("revoke", what, f"{until * 1000:.0f}", str(MAX_REVOKED), notice):
            raise too_many_tokens()

    def revoked(self) -> list[tuple[str, float]]:
        """Return the revoked tokens, and until when each is stored."""
        return self._read_times("revoked")

    def revoke_subject(self, subject: str, at: float, oldest: float, notice: str) -> None:
        """Store when a subject was revoked, and send a notice."""
        age = time() - oldest  # the server subtracts it from its own time: this clock may be wrong
        times = f"{at * 1000:.3f}", f"{age * 1000:.0f}"
        if not self._write("revoke_subject", subject, *times, str(MAX_REVOKED), notice):
            raise too_many_subjects()

    def subjects(self) -> list[tuple[str, float]]:
        """Return the revoked subjects, and when each was revoked."""
        if not self._moved:
            self._read_times("revoked")  # this moves what older hubs stored there
            self._moved = True
        return self._read_times("subjects")

    def close(self) -> None:
        """Do nothing: the broker closes the connections."""

    def _read_times(self, verb: str) -> list[tuple[str, float]]:
        found = {_text(what): float(ms) / 1000 for what, ms in self._pages(verb)}
        return list(found.items())

    def _pages(self, *call: str, rest: str = "") -> Iterator[tuple[bytes, bytes]]:
        # There may be a hundred thousand items, and one may come twice.
        cursor = "0"
        while True:
            after, flat = self._read(*call, cursor, rest)
            yield from zip(flat[::2], flat[1::2], strict=True)
            cursor = _text(after)
            if cursor == "0":
                return

    def _write(self, verb: str, *arguments: str) -> Any:
        return self._client.call_once(ScriptCall(_SCRIPT, [verb, *arguments]))

    def _read(self, verb: str, *arguments: str) -> Any:
        return self._client.call(ScriptCall(_SCRIPT, [verb, *arguments]))


def _text(value: bytes) -> str:
    return value.decode(errors="replace")  # a damaged one must not make the others unreadable


def _number(position: bytes) -> int:
    return int(position.partition(b"-")[2])
