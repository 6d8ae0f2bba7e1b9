"""Parse queries and forms without holding the loop.

`urllib.parse.parse_qsl` holds it for more than a second where a form is eight megabytes of `%41`;
in a thread it still takes most of the loop's time, because it holds the GIL.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from ...core.events import MAX_TOPICS
from ...errors import BadRequest
from ...scheduling import RequestSlice
from . import multipart, whole_body

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from flask import Request

Fields = dict[str, list[str]]
"""The values of each field, in their order. Building a `MultiDict` takes three times as long."""

_MAX_FIELDS = MAX_TOPICS + 100
_STEP_BYTES = 4 << 10  # decoded in less than a millisecond


def query(request: Request) -> Fields:
    """Return the query's parameters.

    :raises BadRequest: it is not UTF-8, or has too many parameters.
    """
    return _parse_pairs(request.query_string, "query")


def flag(name: str, text: str) -> bool:
    """Return the value of a parameter that is on or off.

    :raises BadRequest: it is neither 1 nor 0.
    """
    if text not in {"0", "1"}:
        detail = f"The parameter {name} must be 1 or 0."
        raise BadRequest(detail, f"Send {name}=1 to turn it on, or leave it out.")
    return text == "1"


def first_values(fields: Fields, single: Container[str], what: str = "field") -> dict[str, str]:
    """Return the first value of each field.

    :param single: the fields that may occur once.
    :param what: what a refusal calls a field.
    :raises BadRequest: one of `single` has several values.
    """
    found = {}
    for name, values in fields.items():
        if len(values) > 1 and name in single:
            raise repeated(name, "Send it once. Only topic may be repeated.", what)
        found[name] = values[0]
    return found


def repeated(name: str, remedy: str, what: str = "field") -> BadRequest:
    """Return the refusal of a field that occurs more than once."""
    return BadRequest(f'The {what} "{name}" occurs more than once.', remedy)


def read(request: Request, body: bytes) -> Fields:
    """Return the fields of a form.

    :raises BadRequest: it is malformed, not UTF-8, or has too many fields.
    :raises UnsupportedMediaType: it holds a file, or text in another encoding.
    """
    body = body.removeprefix(BOM_UTF8)  # which would belong to the first name or boundary
    if request.mimetype != "multipart/form-data":
        return _parse_pairs(body, "form")
    whole_body.text(body)  # refuses what is not UTF-8 before it is parsed
    boundary = request.mimetype_params.get("boundary", "").encode()
    return _collect(multipart.fields(body, boundary, _MAX_FIELDS))


def _collect(pairs: Iterable[tuple[str, str]]) -> Fields:
    found: Fields = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found


def _parse_pairs(text: bytes, what: str) -> Fields:
    """Return fields as `urllib.parse.parse_qs` does, and yield to the loop meanwhile."""
    if not text:
        return {}
    fields = text.replace(b"+", b" ").split(b"&", _MAX_FIELDS)
    if len(fields) > _MAX_FIELDS:
        detail = f"The {what} has more than {_MAX_FIELDS} fields."
        raise BadRequest(detail, f"Send fewer; an event has at most {MAX_TOPICS} topics.")
    try:
        if b"%" not in text:
            return _collect(field.decode().partition("=")[::2] for field in fields if field)
        time_slice = RequestSlice()
        pairs = [field.partition(b"=") for field in fields if field]
        return _collect(
            (_unquote(name, time_slice), _unquote(it, time_slice)) for name, _, it in pairs
        )
    except UnicodeDecodeError:
        if what == "form":
            whole_body.text(text)  # names the byte, unless it is percent-encoded
        detail = f"The {what} is not UTF-8."
        raise BadRequest(detail, "Encode it as UTF-8 before you percent-encode it.") from None


def _unquote(quoted: bytes, time_slice: RequestSlice) -> str:
    if b"%" not in quoted:
        return quoted.decode()
    found, start = bytearray(), 0
    while start < len(quoted):
        end = start + _STEP_BYTES
        cut = quoted.find(b"%", end - 2, end)  # an escape that this step would cut in two
        end = end if cut < 0 else cut
        found += unquote_to_bytes(quoted[start:end])
        start = end
        time_slice.checkpoint()
    return found.decode()
