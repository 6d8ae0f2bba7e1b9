"""The times at which a stream has to end, because of its age or its token."""

from __future__ import annotations

import time

from ...backoff import jitter

_NEVER = float("inf")
_WARNING_S = 60  # before a token expires


class Deadlines:
    """The end of one stream. All times are monotonic.

    :param max_age: seconds, of which a random 80 to 100 % count; 0: no end.
    :param expires: Unix seconds at which the token expires; None: never.
    """

    __slots__ = ("_end", "_expires", "next_check", "warning_due")

    def __init__(self, max_age: float, expires: float | None) -> None:
        now = time.monotonic()
        self._expires = expires
        self._end = now + max_age * jitter(0.8, 1) if max_age else _NEVER
        self.next_check = self._end
        """Nothing has to be done before this time."""
        self.warning_due = False
        """Whether the client has to be warned that its token expires; the stream clears it."""
        if expires is not None:
            left = expires - time.time()
            self._end = min(self._end, now + left)
            self.next_check = min(self._end, now + left - _WARNING_S)

    def warn_now(self, now: float) -> bool:
        """Whether it is time to warn the client that its token expires. True once; `warning_due` is
        then set.
        """
        due = self.next_check <= now and self.next_check < self._end
        if due:
            self.next_check = self._end
            self.warning_due = True
        return due

    def end_reason(self, now: float) -> str | None:
        """Return why the stream has to end: `token_expired` or `max_age`. None: it goes on."""
        if now < self._end:
            return None
        expired = self._expires is not None and time.time() >= self._expires
        return "token_expired" if expired else "max_age"
