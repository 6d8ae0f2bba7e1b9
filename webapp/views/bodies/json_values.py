"""Read and write JSON values without holding the loop.

Python's own parser and writer hold it until they are done: for 0.2 s each where eight megabytes
are numbers.
"""

from __future__ import annotations

import json
import re
from itertools import islice
from json import scanner
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ...core.json_members import have_clear_names, to_object
from ...errors import BadRequest, ContentTooLarge
from ...scheduling import RequestSlice, cooperative
from .batch_limits import MAX_BYTES, MAX_EVENTS, array_refusal
from .whole_body import text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

Value = tuple[Any, bool]
"""A value, and whether it is so large that writing it must yield to the loop. A pipe has one for
each line, so it is not a class.
"""

MAX_VALUES = 100_000  # in one JSON text
_MAX_NUMBER_CHARS = 1000
_PORTION_CHARS = 64 << 10  # looked through at once
_LARGE_CHARS = 16 << 10  # a longer text takes more than a few milliseconds
_SPACE = re.compile(r"[ \t\n\r]*")


def one(line: bytes) -> Value:
    """Return the value of a line of JSON.

    :raises BadRequest: it is not JSON.
    :raises ContentTooLarge: it has more than `MAX_VALUES` values.
    """
    if len(line) <= _LARGE_CHARS:
        try:  # as programs write it, without `JSONDecoder.decode`, which costs as much again
            source = line.decode()
            item, end = _scan_once(source, 0)
            if end == len(source) or source[end:] == "\r":
                if not have_clear_names(item, source):
                    item, _ = _scan_names(source, 0)
                return item, False
        except (ValueError, StopIteration, RecursionError):
            pass  # `_one` reads the line, or says what is wrong with it
    return _one(_text(line), "line")


def several(body: bytes) -> list[Value]:
    """Return the values of a JSON array, or the single value of a text that is not an array.

    :raises BadRequest: it is not JSON, or an empty array.
    :raises ContentTooLarge: it has more than `MAX_VALUES` values, or an array of several is over
        a limit; see `batch_limits`.
    """
    source = _text(body)
    start = _after_space(source, 0)
    if source[start : start + 1] != "[":
        return [_one(source, "body")]
    is_large = len(body) > MAX_BYTES
    count = 2 if is_large else MAX_EVENTS + 1
    found = _read(lambda: list(islice(_items(source, start + 1), count)), "body")
    if not found:
        detail = "The JSON array is empty."
        raise BadRequest(detail, f"Send 1 to {MAX_EVENTS} events in it.", reason="batch")
    if len(found) == count:
        raise array_refusal(MAX_BYTES, "bytes") if is_large else array_refusal(MAX_EVENTS, "events")
    return found


def to_json(value: Value) -> str:
    """Return a value as JSON.

    :raises ValueError: it has NaN or an infinity.
    :raises RecursionError: it is nested too deeply.
    """
    item, large = value
    if not large:
        return _ENCODER.encode(item)
    return "".join(cooperative(_ENCODER.iterencode(item), RequestSlice()))


def _one(source: str, what: str) -> Value:
    if len(source) > _LARGE_CHARS:
        return _read(lambda: _cooperative_decoder().decode(source), what), True
    item = _read(lambda: _QUICK_DECODER.decode(source), what)
    return (item if have_clear_names(item, source) else _DECODER.decode(source)), False


def _text(body: bytes) -> str:
    source = text(body).removeprefix("\ufeff")  # a byte order mark (RFC 8259, section 8.1)
    if len(source) > MAX_VALUES and _has_too_many_values(source):
        detail = f"The JSON has more than {MAX_VALUES} values."
        remedy = "Split it into several requests, or send such data as one string."
        raise ContentTooLarge(detail, remedy, reason="values")
    return source


def _read(parse: Callable[[], T], what: str) -> T:
    """Return what `parse` returns.

    :param what: what the text is: a `body`, or a `line` of one.
    :raises BadRequest: it is not JSON.
    """
    try:
        return parse()
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if what == "body" else ""
        detail = f"The {what} is not JSON: {line}column {error.colno}."
        remedy = 'Send a JSON object like {"data": "hello"}.'
        if "\0" in error.doc[:4]:
            remedy = "Send it as UTF-8; it looks like UTF-16 or UTF-32."
    except (ValueError, RecursionError):
        detail = "The JSON has a number that is too long, or is nested too deeply."
        remedy = "Send such a number as a string, and flatten the nesting."
    raise BadRequest(detail, remedy)


def _items(source: str, at: int) -> Iterator[Value]:
    """Yield the items of an array one by one.

    :param at: the index after the opening bracket.
    :raises ValueError: it is not JSON.
    """
    time_slice = RequestSlice()
    at = _after_space(source, at)
    more = source[at : at + 1] != "]"
    while more:
        value, end = _item(source, at)
        yield value
        time_slice.checkpoint()
        at = _after_space(source, end)
        more = source[at : at + 1] == ","
        if more:
            at = _after_space(source, at + 1)
    if source[at : at + 1] != "]":
        message = "Expecting ',' delimiter"
        raise json.JSONDecodeError(message, source, at)
    if (end := _after_space(source, at + 1)) != len(source):
        message = "Extra data"
        raise json.JSONDecodeError(message, source, end)


def _item(source: str, at: int) -> tuple[Value, int]:
    """Return the value that begins at an index, and the index behind it."""
    try:
        text = source[at : at + _LARGE_CHARS]
        item, length = _QUICK_DECODER.raw_decode(text)
        if not have_clear_names(item, text[:length]):
            item, length = _DECODER.raw_decode(text)
    except json.JSONDecodeError:  # it is larger, or not JSON
        item, end = _cooperative_decoder().raw_decode(source, at)
        return (item, True), end
    return (item, False), at + length


def _after_space(source: str, at: int) -> int:
    match = _SPACE.match(source, at)
    return match.end() if match else at


def _cooperative_decoder() -> json.JSONDecoder:
    """Return a decoder for large texts, which yields to the loop between values.

    It has the standard library's scanner in Python: the one in C holds the loop for 60 ms where an
    object has 90,000 members.
    """
    time_slice = RequestSlice()

    def cooperating(scan: Callable[..., Any]) -> Callable[..., Any]:
        def scan_value(source: str, at: int) -> Any:
            time_slice.checkpoint()
            return scan(source, at)

        return scan_value

    decoder: Any = _decoder(object_pairs_hook=to_object)
    array, object_ = decoder.parse_array, decoder.parse_object
    decoder.parse_array = lambda start, scan: array(start, cooperating(scan))
    decoder.parse_object = lambda start, strict, scan, *rest: object_(
        start, strict, cooperating(scan), *rest
    )
    decoder.scan_once = scanner.py_make_scanner(decoder)  # type: ignore[attr-defined] # not in its stubs
    return cast("json.JSONDecoder", decoder)


def _decoder(**options: Any) -> json.JSONDecoder:
    return json.JSONDecoder(parse_int=_integer, parse_float=_fraction, **options)


def _integer(digits: str) -> int:
    return int(_check_length(digits))


def _fraction(digits: str) -> float:
    return float(_check_length(digits))


def _check_length(digits: str) -> str:
    if len(digits) > _MAX_NUMBER_CHARS:
        message = "converting it would take time that grows with the square of its length"
        raise ValueError(message)
    return digits


# Made once: `json.loads` and `json.dumps` with arguments would make one for each text.
_DECODER, _QUICK_DECODER = _decoder(object_pairs_hook=to_object), _decoder()
_scan_once = _QUICK_DECODER.scan_once  # type: ignore[attr-defined] # not in its stubs
_scan_names = _DECODER.scan_once  # type: ignore[attr-defined] # also finds repeated members
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _has_too_many_values(source: str) -> bool:
    """Estimate whether a JSON text has more than `MAX_VALUES` values.

    Counted are the commas and brackets outside of its strings, and its strings, of which it may
    have twice as many: names of members are strings too. Counting yields to the loop.
    """
    structure, quotes, inside, start = 0, 0, 0, 0
    time_slice = RequestSlice()
    while start < len(source):
        end = _end_of_portion(source, start)
        portion = source[start:end].replace("\\\\", "").replace('\\"', "")
        pieces = portion.split('"')
        structure += _count_structure("".join(pieces[inside::2]))
        quotes += len(pieces) - 1
        if structure > MAX_VALUES or quotes > 4 * MAX_VALUES:
            return True
        inside, start = quotes % 2, end
        time_slice.checkpoint()
    return False


def _end_of_portion(source: str, start: int) -> int:
    """Return an end that does not lie between a backslash and what it escapes."""
    portion = source[start : start + _PORTION_CHARS]
    backslashes = len(portion) - len(portion.rstrip("\\"))
    return start + _PORTION_CHARS + backslashes % 2


def _count_structure(source: str) -> int:
    return source.count(",") + source.count("[") + source.count("{")
