"""JSON values, read and written while others have their turns.

Python's own parser and writer hold the loop until they are done: for 0.2 s each where eight
megabytes are numbers.
"""

from __future__ import annotations

import json
import re
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import BadRequest, ContentTooLarge
from ..scheduling import TimeSlice, cooperative
from . import forms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

S = TypeVar("S")
T = TypeVar("T")

Value = tuple[Any, bool]
"""A value, and whether it is large enough to be written in turns; a pipe has one for each line."""

MAX_VALUES = 100_000  # in one JSON text
_LONG = 1000  # characters of a number
_LARGE = 16 << 10  # characters of a text that takes more than a few milliseconds
_SPACE = re.compile(r"[ \t\n\r]*")


def one(body: bytes) -> Value:
    """Return a JSON text's value.

    :raises Invalid: it is not JSON.
    :raises TooLarge: it has more than `MAX_VALUES` values.
    """
    return _one(_text(body))


def several(body: bytes, most: int) -> list[Value]:
    """Return the values of a JSON array, or the one value that is no array.

    :raises Invalid: it is not JSON, or an empty array.
    :raises TooLarge: it has more than `MAX_VALUES` values, or more than `most` in the array.
    """
    text = _text(body)
    start = _after_space(text, 0)
    if text[start : start + 1] != "[":
        return [_one(text)]
    found = _read(partial(_up_to, most + 1), _items(text, start + 1))
    if not 0 < len(found) <= most:
        detail = f"A JSON array has 1 to {most} events; this one has {'more' if found else 'none'}."
        refusal = ContentTooLarge if found else BadRequest
        raise refusal(detail, "Send several, or an NDJSON body.", reason="batch")
    return found


def written(value: Value) -> str:
    """Return a value as JSON.

    :raises ValueError: it has NaN or an infinity.
    :raises RecursionError: it is nested too deeply.
    """
    item, large = value
    return "".join(cooperative(_ENCODER.iterencode(item))) if large else _ENCODER.encode(item)


def _one(text: str) -> Value:
    large = len(text) > _LARGE
    decoder = _decoder() if large else _DECODER
    return _read(decoder.decode, text), large


def _text(body: bytes) -> str:
    text = forms.text(body)
    if len(text) > MAX_VALUES and _parts(text) > MAX_VALUES:
        detail = f"The JSON has more than {MAX_VALUES} values."
        raise ContentTooLarge(detail, "Send several, or such data as one string.", reason="values")
    return text


def _read(parse: Callable[[S], T], source: S) -> T:
    try:
        return parse(source)
    except json.JSONDecodeError as error:
        detail = f"The body is not JSON: line {error.lineno}, column {error.colno}."
    except (ValueError, RecursionError):
        detail = "The body is not JSON: a number or the nesting is beyond what is read."
    raise BadRequest(detail, 'Send a JSON object like {"data": "hello"}.')


def _items(text: str, at: int) -> Iterator[Value]:
    """Yield the items of an array that begins before `at`, one after the other.

    :raises ValueError: it is not JSON.
    """
    decoder, pace = _decoder() if len(text) > _LARGE else _DECODER, TimeSlice()
    at = _after_space(text, at)
    more = text[at : at + 1] != "]"
    while more:
        item, end = decoder.raw_decode(text, at)
        yield item, end - at > _LARGE
        pace.checkpoint()
        at = _after_space(text, end)
        more = text[at : at + 1] == ","
        if more:
            at = _after_space(text, at + 1)
    if text[at : at + 1] != "]":
        message = "Expecting ',' delimiter"
        raise json.JSONDecodeError(message, text, at)
    if (end := _after_space(text, at + 1)) != len(text):
        message = "Extra data"
        raise json.JSONDecodeError(message, text, end)


def _up_to(most: int, items: Iterator[Value]) -> list[Value]:
    return [value for value, _ in zip(items, range(most), strict=False)]


def _after_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _decoder() -> json.JSONDecoder:
    """Return what reads a large text: others have their turns between its numbers."""
    pace = TimeSlice()

    def keeping(number: Callable[[str], float]) -> Callable[[str], float]:
        def read(digits: str) -> float:
            pace.checkpoint()
            return number(digits)

        return read

    return json.JSONDecoder(parse_int=keeping(_whole), parse_float=keeping(_fraction))


def _whole(digits: str) -> int:
    return int(_short(digits))


def _fraction(digits: str) -> float:
    return float(_short(digits))


def _short(digits: str) -> str:
    if len(digits) > _LONG:
        message = "its time would grow with the square of its length"
        raise ValueError(message)
    return digits


# `json.loads` and `json.dumps` would make one for each text.
_DECODER = json.JSONDecoder(parse_int=_whole, parse_float=_fraction)
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _parts(text: str) -> int:
    """Return how many commas and brackets lie outside of a JSON text's strings, about as many as
    it has values, or how many strings if those are too many alone. It takes milliseconds.
    """
    if _structure(text) <= MAX_VALUES:
        return 0
    text = text.replace("\\\\", "").replace('\\"', "")
    if (strings := text.count('"') // 2) > 2 * MAX_VALUES:  # names of members are strings too
        return strings
    return sum(map(_structure, text.split('"')[::2]))


def _structure(text: str) -> int:
    return text.count(",") + text.count("[") + text.count("{")
