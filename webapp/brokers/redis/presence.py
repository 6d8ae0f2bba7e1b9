"""The roster of many machines: beside the log in Redis or Valkey, over the log's connections."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from ..presence_base import LEASE_FRACTION, MAX_REVOKED, Notices, too_many_subjects, too_many_tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .client import RedisClient

ROSTER_KEYS = (
    "{tidings}:processes",
    "{tidings}:notices",
    "{tidings}:revoked",
    "{tidings}:subjects",
)
_NO_LIMITS = ("0", "0")  # what the log's verbs need
_NOTICES = ROSTER_KEYS[1]


class RedisPresenceStore:
    """A roster that a server keeps.

    :param lease: in seconds, after which a killed process's readers are gone.
    """

    def __init__(self, link: RedisClient, lease: float) -> None:
        self._link = link
        self._life = str(round(lease * LEASE_FRACTION * 1000))
        self._owner = secrets.token_hex(8)
        self._heard: Callable[[], None] | None = None

    def heartbeat(self, changes: Mapping[str, str | None]) -> bool:
        """Live on, and write down who came and left; see `Roster.renew`."""
        pairs = [part for name, text in changes.items() for part in (name, text or "")]
        return bool(self._write("renew", self._owner, self._life, *pairs))

    def deregister(self) -> None:
        """Take this process's readers away."""
        self._write("retire", self._owner)

    def subscribers(self) -> list[tuple[str, str]]:
        """Return who listens on all machines."""
        found: list[tuple[str, str]] = []
        for owner in self._read("owners"):
            flat = [_text(part) for part in self._read("readers", _text(owner))]
            found += zip(flat[::2], flat[1::2], strict=True)
        return sorted(found)

    def notices_after(self, after: int | None) -> Notices:
        """Return the notices after a number."""
        start = "" if after is None else str(after)
        first, last, batches = self._read("news", start)
        upto = _number(last)
        if self._heard:
            self._link.also_wait_for(_NOTICES, f"0-{upto}", self._heard)
        notices = [line for lines in batches for line in _text(lines).split("\n")]
        whole = after in {None, upto} or (
            first is not None and _number(first) - 1 <= (after or 0) < upto
        )
        return Notices(notices, upto, whole)

    def broadcast(self, notice: str) -> None:
        """Tell all processes."""
        self._write("post", notice)

    def revoke(self, what: str, until: float, notice: str) -> None:
        """Remember what is refused, and tell all processes."""
        if not self._write("revoke", what, f"{until * 1000:.0f}", str(MAX_REVOKED), notice):
            raise too_many_tokens()

    def revoked(self) -> list[tuple[str, float]]:
        """Return what is refused, and until when."""
        return _timed(self._read("revoked"))

    def revoke_subject(self, subject: str, at: float, oldest: float, notice: str) -> None:
        """Remember when a subject was revoked, and tell all processes."""
        times = f"{at * 1000:.3f}", f"{oldest * 1000:.0f}"
        if not self._write("revoke_subject", subject, *times, str(MAX_REVOKED), notice):
            raise too_many_subjects()

    def subjects(self) -> list[tuple[str, float]]:
        """Return the subjects that were revoked, and when."""
        return _timed(self._read("subjects"))

    def on_notice(self, callback: Callable[[], None]) -> None:
        """Have `callback` called at news, as long as somebody follows the log."""
        self._heard = callback

    def close(self) -> None:
        """The connections are the log's."""

    def _write(self, verb: str, *values: str) -> Any:
        return self._link.write([verb, *_NO_LIMITS, *values])

    def _read(self, verb: str, *values: str) -> Any:
        return self._link.read([verb, *_NO_LIMITS, *values])


def _timed(flat: list[bytes]) -> list[tuple[str, float]]:
    pairs = zip(flat[::2], flat[1::2], strict=True)
    return [(_text(what), float(ms) / 1000) for what, ms in pairs]


def _text(value: bytes) -> str:
    return value.decode(errors="replace")  # what is damaged must not take the others with it


def _number(position: bytes) -> int:
    return int(position.partition(b"-")[2])
