"""From a request's body to drafts: forms, JSON, NDJSON line by line, and raw text."""

from __future__ import annotations

import io
import json
import math
from itertools import takewhile
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from flask import request
from werkzeug.datastructures import MultiDict
from werkzeug.formparser import MultiPartParser
from werkzeug.http import parse_options_header

from webapp.errors import Invalid, TooLarge, Unreadable
from webapp.events import MAX_TOPICS, Draft
from webapp.pace import give_way

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from werkzeug.datastructures import Headers

MAX_BATCH = 10_000  # events in one JSON array
DIGITS = 20  # of a number in a form: enough for any time
_FIELDS = ("topic", "data", "type", "id", "private", "retry")
_MAX_FIELDS = MAX_TOPICS + 100
_CHUNK = 64 << 10
_STEP = 50

Fields = dict[str, Any]


def query() -> MultiDict[str, str]:
    """Return the query's parameters.

    :raises Invalid: it is not UTF-8, or has too many.
    """
    return _pairs(request.query_string, "query")


def drafts(default: str | None, max_body: int) -> list[Draft]:
    """Return what a form, JSON or raw body publishes; all of it is valid.

    :param default: the topic of events that name none; None: they are refused.
    :raises Invalid: the body, or an event in it, cannot be published.
    :raises TooLarge: the body is over `max_body` bytes, or the array over `MAX_BATCH` events.
    :raises Unreadable: the body is of a kind that the hub does not read.
    """
    check_encoding()
    body = read(max_body)
    if request.mimetype == "application/json":
        value = _json(body)
        items = value if isinstance(value, list) else [value]
        if not items or len(items) > MAX_BATCH:
            detail = f"A JSON array has 1 to {MAX_BATCH} events; this one has {len(items)}."
            raise (TooLarge if items else Invalid)(detail, "Send several, or an NDJSON body.")
        return list(_drafts(items, default))
    if request.mimetype in {"application/x-www-form-urlencoded", "multipart/form-data"}:
        fields = _form(body)
    else:
        fields = query()
        if body:
            fields["data"] = _text(body)
    if not any(name in fields for name in _FIELDS):
        detail = f"The request has none of {', '.join(_FIELDS)}."
        raise Invalid(detail, "Send data=…, as in curl -d data=hello; or set a Content-Type.")
    return [draft(_plain(fields), default)]


def _drafts(items: list[Any], default: str | None) -> Iterator[Draft]:
    for number, item in enumerate(items):
        if number % _STEP == 0:
            give_way()  # thousands of events, or of topics: let others have their turn
        yield draft(item, default)


def lines(max_line: int) -> Iterator[list[bytes]]:
    """Yield the complete lines of the body as they arrive, in batches, for as long as it lasts.

    :raises TooLarge: a line is over `max_line` bytes.
    """
    rest = bytearray()
    for piece in _pieces():
        complete, end, begun = piece.rpartition(b"\n")
        found = bytes(rest + complete).split(b"\n") if end else []
        short = list(takewhile(lambda line: len(line) <= max_line, found))
        yield short
        if end:
            rest.clear()
        rest += begun  # all of the piece where no line ends in it
        if len(short) < len(found) or len(rest) > max_line:
            detail = f"A line is over TIDINGS_MAX_BODY_BYTES, {max_line} bytes."
            raise TooLarge(detail, "Send smaller events, one a line.")
        give_way()  # a pipe that is always full never waits: let others have their turn
    if not getattr(request.environ["wsgi.input"], "cut", False):
        yield [bytes(rest)]


def parse_line(line: bytes, default: str | None) -> Draft:
    """Return what one line of NDJSON publishes.

    :raises Invalid: it cannot be published.
    """
    return draft(_json(line), default)


def read(limit: int) -> bytes:
    """Read the whole body.

    :raises TooLarge: it is over `limit` bytes.
    """
    if (request.content_length or 0) > limit:
        raise _too_large(limit)
    body: bytes = request.stream.read(limit + 1)
    if len(body) > limit:
        raise _too_large(limit)
    return body


def draft(item: object, default: str | None) -> Draft:
    """Return the draft that a JSON object, or a form's fields, describe.

    :raises Invalid: it is not an object of the known members, or says what cannot be published.
    """
    if not isinstance(item, dict):
        detail = "An event is a JSON object."
        raise Invalid(detail, 'Send one like {"topic": "news", "data": "hello"}.')
    if unknown := item.keys() - set(_FIELDS):
        detail = f"An event has no {len(unknown)} such members; it has {', '.join(_FIELDS)}."
        raise Invalid(detail, "Put your own members into data.")
    return Draft(
        topics=_topics(item.get("topic"), default),
        data=_data(item.get("data", "")),
        type=_string("type", item.get("type")) or None,
        id=_string("id", item.get("id")) or None,
        private=_private(item.get("private", False)),
        retry=_retry(item.get("retry")),
    )


def _pieces() -> Iterator[bytes]:
    body = request.environ["wsgi.input"]
    if hasattr(body, "pieces"):
        yield from body.pieces()
        return
    # Another server than ours: as soon as it lets us.
    while piece := request.stream.readline(_CHUNK):
        yield piece


def check_encoding() -> None:
    """Refuse a body that is not plain UTF-8.

    :raises Unreadable: it says that it is compressed, or in another encoding.
    """
    _check_charset(request.mimetype_params)
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        detail = "The body is compressed."
        raise Unreadable(detail, "Send it as it is.")


def _check_charset(parameters: Mapping[str, str]) -> None:
    if parameters.get("charset", "utf-8").lower() not in {"utf-8", "utf8", "ascii", "us-ascii"}:
        detail = "The body is in another encoding than UTF-8."
        raise Unreadable(detail, "Send it as UTF-8.")


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        detail = f"The body is not UTF-8: byte {error.start} is no character."
        raise Invalid(detail, "Send UTF-8; other bytes can travel as base64.") from None


def _json(body: bytes) -> Any:
    try:
        return json.loads(_text(body), parse_constant=_finite, parse_float=_finite)
    except json.JSONDecodeError as error:
        detail = f"The body is not JSON: line {error.lineno}, column {error.colno}."
    except (ValueError, RecursionError):
        detail = "The body is not JSON: a number or the nesting is beyond what is read."
    raise Invalid(detail, 'Send a JSON object like {"data": "hello"}.')


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        message = "NaN and Infinity are not JSON"
        raise ValueError(message)
    return number


def _form(body: bytes) -> MultiDict[str, str]:
    many = request.mimetype == "multipart/form-data"
    return _multipart(body) if many else _pairs(body, "form")


def _multipart(body: bytes) -> MultiDict[str, str]:
    _text(body)  # the parser would replace what is not UTF-8
    boundary = request.mimetype_params.get("boundary", "").encode()
    try:
        form, files = _Parts(max_form_parts=_MAX_FIELDS).parse(
            io.BytesIO(body), boundary, len(body)
        )
    except ValueError:
        detail = "The multipart form is broken."
        raise Invalid(detail, "Send it as it was made, or as a plain form.") from None
    if files:
        detail = "The form holds a file."
        raise Unreadable(detail, "Send the text as the field data.")
    return form


class _Parts(MultiPartParser):
    def get_part_charset(self, headers: Headers) -> str:
        _check_charset(parse_options_header(headers.get("Content-Type"))[1])
        return "utf-8"


def _pairs(text: bytes, what: str) -> MultiDict[str, str]:
    try:
        pairs = parse_qsl(
            text.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS
        )
    except UnicodeDecodeError:
        detail = f"The {what} is not UTF-8."
        raise Invalid(detail, "Percent-encode UTF-8.") from None
    except ValueError:
        detail = f"The {what} has more than {_MAX_FIELDS} fields."
        raise Invalid(detail, f"An event has at most {MAX_TOPICS} topics.") from None
    return MultiDict(pairs)


def _plain(fields: MultiDict[str, str]) -> Fields:
    plain: Fields = {name: fields[name] for name in _FIELDS if name in fields}
    if "topic" in plain:
        plain["topic"] = fields.getlist("topic")
    if "private" in plain:
        # Mercure: its presence means on, whatever it says; a plain no is still taken for one.
        plain["private"] = plain["private"].lower() not in {"0", "false", "off", "no"}
    return plain


def _topics(value: object, default: str | None) -> tuple[str, ...]:
    if value is None and default:
        return (default,)
    if value is None:
        detail = 'Missing "topic" parameter.'
        raise Invalid(detail, "Name a topic; only /events has one by default.")
    topics = value if isinstance(value, list) else [value]
    if not all(isinstance(topic, str) for topic in topics):
        detail = "A topic is a string, and several are a list of strings."
        raise Invalid(detail, 'Send "topic": "news" or "topic": ["news", "sport"].')
    return tuple(dict.fromkeys(topics))


def _data(value: object) -> str:
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except RecursionError:
        detail = "The data is nested too deeply to be written again."
        raise Invalid(detail, "Flatten it, or send it as a string.") from None


def _string(name: str, value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        detail = f"The {name} is not a string."
        raise Invalid(detail, f"Send {name} as a JSON string.")
    return value


def _private(value: object) -> bool:
    if not isinstance(value, bool):
        detail = "private is true or false."
        raise Invalid(detail, "Send it as a JSON boolean.")
    return value


def _retry(value: object) -> int | None:
    if value is None or value == "":
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # to JSON they are one number
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= DIGITS:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    detail = 'Invalid "retry" parameter.'
    raise Invalid(detail, "Send milliseconds as digits.")


def _too_large(limit: int) -> TooLarge:
    detail = f"The body is over TIDINGS_MAX_BODY_BYTES, {limit} bytes."
    return TooLarge(detail, "Send less at once, or stream it as NDJSON.")
