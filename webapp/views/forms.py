"""Query strings and forms, in portions: some megabytes of `%41` take seconds to decode."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from werkzeug.datastructures import MultiDict

from ..core.events import MAX_TOPICS
from ..errors import BadRequest
from ..scheduling import TimeSlice
from . import multipart

if TYPE_CHECKING:
    from flask import Request

_MAX_FIELDS = MAX_TOPICS + 100
_ESCAPES = 4 << 10  # bytes that are decoded in a millisecond


def query(request: Request) -> MultiDict[str, str]:
    """Return the query's parameters.

    :raises Invalid: it is not UTF-8, or has too many.
    """
    return _pairs(request.query_string, "query")


def read(request: Request, body: bytes) -> MultiDict[str, str]:
    """Return the fields of a form.

    :raises Invalid: it is broken, not UTF-8, or has too many fields.
    :raises Unreadable: it holds a file, or text in another encoding.
    """
    many = request.mimetype == "multipart/form-data"
    if not many:
        return _pairs(body, "form")
    text(body)  # what is not UTF-8 is refused before it is taken apart
    boundary = request.mimetype_params.get("boundary", "").encode()
    return MultiDict(multipart.fields(body, boundary, _MAX_FIELDS))


def _pairs(text: bytes, what: str) -> MultiDict[str, str]:
    """Return the fields of a query or a form, as `urllib.parse.parse_qsl` does, but paced: it
    would take seconds for some megabytes of %XX.
    """
    fields = text.replace(b"+", b" ").split(b"&", _MAX_FIELDS)
    if len(fields) > _MAX_FIELDS:
        detail = f"The {what} has more than {_MAX_FIELDS} fields."
        raise BadRequest(detail, f"An event has at most {MAX_TOPICS} topics.")
    pace = TimeSlice()
    try:
        pairs = [field.partition(b"=") for field in fields if field]
        return MultiDict([(_plain(name, pace), _plain(value, pace)) for name, _, value in pairs])
    except UnicodeDecodeError:
        detail = f"The {what} is not UTF-8."
        raise BadRequest(detail, "Percent-encode UTF-8.") from None


def _plain(quoted: bytes, pace: TimeSlice) -> str:
    if b"%" not in quoted:
        return quoted.decode()
    found, start = bytearray(), 0
    while start < len(quoted):
        end = start + _ESCAPES
        cut = quoted.find(b"%", end - 2, end)  # one that would be cut in two
        end = end if cut < 0 else cut
        found += unquote_to_bytes(quoted[start:end])
        start = end
        pace.checkpoint()
    return found.decode()


def text(body: bytes) -> str:
    """Return UTF-8 as text.

    :raises Invalid: it is not.
    """
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        detail = f"The body is not UTF-8: byte {error.start} is no character."
        raise BadRequest(detail, "Send UTF-8; other bytes can travel as base64.") from None
