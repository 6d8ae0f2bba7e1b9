"""How long a stream may last."""

from __future__ import annotations

import random
import time

_NEVER = float("inf")
_NOTICE = 60  # seconds before a token's end


class Deadlines:
    """The end of one stream: that of its age or that of its token; all moments are monotonic.

    :param max_age: in seconds, jittered 80 to 100 %; 0: for ever.
    :param expires: Unix seconds at which the token ends; None: never.
    """

    __slots__ = ("_end", "_expires", "due")

    def __init__(self, max_age: float, expires: float | None) -> None:
        now = time.monotonic()
        self._expires = expires
        self._end = now + max_age * random.uniform(0.8, 1) if max_age else _NEVER  # noqa: S311 - no secret
        self.due = self._end
        """When something of it is to be said."""
        if expires is not None:
            left = expires - time.time()
            self._end = min(self._end, now + left)
            self.due = min(self._end, now + left - _NOTICE)

    def ends_soon(self, now: float) -> bool:
        """Whether the token is about to end; said once."""
        soon = self.due <= now and self.due < self._end
        if soon:
            self.due = self._end
        return soon

    def over(self, now: float) -> str | None:
        """Return why the stream is to end, if it is."""
        if now < self._end:
            return None
        expired = self._expires is not None and time.time() >= self._expires
        return "token_expired" if expired else "max_age"
