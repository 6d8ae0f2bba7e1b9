"""Log lines that any client can cause: each line at most once a minute, and a few lines in all."""

from __future__ import annotations

from time import monotonic

_INTERVAL_S = 60.0
_MAX_LINES = 20  # in an interval


class LimitedLines:
    """Says which lines to log, and counts the others."""

    def __init__(self) -> None:
        self._since = float("-inf")
        self._keys = set[str]()
        self._left_out = 0

    def admit(self, line: str, key: str | None = None) -> str | None:
        """Return the line as it is to be logged, with the number of those that were left out before
        it; None: leave it out.

        :param key: of lines that have the same one, the first one is logged; None: the line itself.
        """
        key = line if key is None else key
        if (now := monotonic()) - self._since > _INTERVAL_S:
            self._since = now
            self._keys.clear()
        if key in self._keys or len(self._keys) >= _MAX_LINES:
            self._left_out += 1
            return None
        self._keys.add(key)
        more, self._left_out = self._left_out, 0
        return f"left_out={more} {line}" if more else line
