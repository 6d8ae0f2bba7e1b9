"""Query strings and forms, in portions: some megabytes of `%41` take seconds to decode."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from werkzeug.datastructures import MultiDict
from werkzeug.formparser import MultiPartParser
from werkzeug.http import parse_options_header

from webapp.errors import Invalid, Unreadable
from webapp.events import MAX_TOPICS
from webapp.pace import Pace, give_way

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flask import Request
    from werkzeug.datastructures import Headers

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
    return _multipart(request, body) if many else _pairs(body, "form")


def _multipart(request: Request, body: bytes) -> MultiDict[str, str]:
    text(body)  # the parser would replace what is not UTF-8
    boundary = request.mimetype_params.get("boundary", "").encode()
    try:
        form, files = _Parts(max_form_parts=_MAX_FIELDS).parse(_Paced(body), boundary, len(body))
    except ValueError:
        detail = "The multipart form is broken."
        raise Invalid(detail, "Send it as it was made, or as a plain form.") from None
    if files:
        detail = "The form holds a file."
        raise Unreadable(detail, "Send the text as the field data.")
    return form


class _Paced(io.BytesIO):
    def read(self, size: int | None = -1) -> bytes:
        give_way()  # between what the parser takes at once
        return super().read(size)


class _Parts(MultiPartParser):
    def get_part_charset(self, headers: Headers) -> str:
        check_charset(parse_options_header(headers.get("Content-Type"))[1])
        return "utf-8"


def _pairs(text: bytes, what: str) -> MultiDict[str, str]:
    """Return the fields of a query or a form, as `urllib.parse.parse_qsl` does, but paced: it
    would take seconds for some megabytes of %XX.
    """
    fields = text.replace(b"+", b" ").split(b"&", _MAX_FIELDS)
    if len(fields) > _MAX_FIELDS:
        detail = f"The {what} has more than {_MAX_FIELDS} fields."
        raise Invalid(detail, f"An event has at most {MAX_TOPICS} topics.")
    pace = Pace()
    try:
        pairs = [field.partition(b"=") for field in fields if field]
        return MultiDict([(_plain(name, pace), _plain(value, pace)) for name, _, value in pairs])
    except UnicodeDecodeError:
        detail = f"The {what} is not UTF-8."
        raise Invalid(detail, "Percent-encode UTF-8.") from None


def _plain(quoted: bytes, pace: Pace) -> str:
    if b"%" not in quoted:
        return quoted.decode()
    found, start = bytearray(), 0
    while start < len(quoted):
        end = start + _ESCAPES
        cut = quoted.find(b"%", end - 2, end)  # one that would be cut in two
        end = end if cut < 0 else cut
        found += unquote_to_bytes(quoted[start:end])
        start = end
        pace.keep()
    return found.decode()


def check_charset(parameters: Mapping[str, str]) -> None:
    """Refuse another encoding than UTF-8.

    :raises Unreadable: a header's parameters name one.
    """
    if parameters.get("charset", "utf-8").lower() not in {"utf-8", "utf8", "ascii", "us-ascii"}:
        detail = "The body is in another encoding than UTF-8."
        raise Unreadable(detail, "Send it as UTF-8.")


def text(body: bytes) -> str:
    """Return UTF-8 as text.

    :raises Invalid: it is not.
    """
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        detail = f"The body is not UTF-8: byte {error.start} is no character."
        raise Invalid(detail, "Send UTF-8; other bytes can travel as base64.") from None
