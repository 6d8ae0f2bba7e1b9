"""Text of clients, as it may stand in a line of the log or in an error."""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import quote

_MAX_CHARS = 100
_UNQUOTED = "/:@{}*!$&()+;?#[]~'"  # beside letters and digits; no space, no comma


@lru_cache(maxsize=256)
def escape(text: str) -> str:
    """Return a text shortened and percent-encoded: without spaces, commas, line breaks and control
    characters.
    """
    # A claim of a token may hold half a surrogate pair.
    short = text if len(text) <= _MAX_CHARS else f"{text[:_MAX_CHARS]}…"
    return quote(short, safe=_UNQUOTED, errors="replace")
