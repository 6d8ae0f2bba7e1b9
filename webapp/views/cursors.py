"""Where a client wants to continue: the cursors in its headers and its query."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..errors import BadRequest

if TYPE_CHECKING:
    from flask import Request

    from .bodies.forms import Fields

MAX_CURSORS = 8  # in a query
MAX_CURSOR_BYTES = 128  # as long as a publisher's own id may be
CURSOR = r"[^\x00-\x1f\x7f]*"
_HEADERS = ("HTTP_LAST_EVENT_ID", "HTTP_MERCURE_LAST_EVENT_ID")
# As Mercure, its drafts, EventSource polyfills (lastEventId) and hx-sse write it.
ALIAS = r"(?i:((evs|mercure)[-_]?)?last[-_]?event[-_]?id)"
"""Other names of the parameter `last_event_id`."""
_SPACE = " \t"  # as in HTTP; \xa0 may be a part of a character, because a header is not decoded
_NO_CURSOR = frozenset({"", "null", "undefined"})  # as a script writes a variable that is not set


def cursors(request: Request, query: Fields) -> tuple[str, ...]:
    """Return a request's cursors: that of a header, else those of its query.

    :param query: its parameters, those with an alias under their names.
    :raises BadRequest: one is not valid, or there are too many.
    """
    for name in _HEADERS:
        # `Request.headers` costs ten times as much.
        if text := request.environ.get(name):
            cursor = _check(text, "latin-1")  # PEP 3333
            if cursor not in _NO_CURSOR:
                return (cursor,)
    texts = query.get("last_event_id")
    if texts is None:
        return ()
    if len(texts) > MAX_CURSORS:
        detail = f"A query has at most {MAX_CURSORS} cursors; this one has {len(texts)}."
        raise BadRequest(detail, "Send one last_event_id.")
    found = (_check(text, "utf-8") for text in texts)
    return tuple(cursor for cursor in dict.fromkeys(found) if cursor not in _NO_CURSOR)


def _check(text: str, encoding: str) -> str:
    cursor = text.strip(_SPACE)
    if len(cursor.encode(encoding)) > MAX_CURSOR_BYTES or not re.fullmatch(CURSOR, cursor):
        detail = f"A cursor has at most {MAX_CURSOR_BYTES} bytes and no control characters."
        raise BadRequest(detail, "Send the id of the last event you saw, or leave it out.")
    return cursor
