"""From a request's body to drafts: forms, JSON, NDJSON line by line, and raw text."""

from __future__ import annotations

from collections import Counter
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from ..core.events import Draft
from ..errors import BadRequest, ContentTooLarge, ServiceUnavailable, UnsupportedMediaType
from ..scheduling import cooperative, yield_to_loop
from . import forms, json_values
from .charset import check_charset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flask import Request
    from werkzeug.datastructures import MultiDict

    from .json_values import Value

MAX_BATCH = 10_000  # events in one JSON array
DIGITS = 20  # of a number in a form: enough for any time
MOST_ARRIVING = 32  # times the limit of one: bytes of bodies that a process holds unfinished
_arriving = Counter[str]()
_FIELDS = ("topic", "data", "type", "id", "private", "retry")
_KNOWN = frozenset(_FIELDS)
_CHUNK = 64 << 10
_SMALL = 8 << 10  # bytes of a body that is not counted among those that arrive
_LOT = 64 << 10  # bytes of a pipe that are taken apart at once; they may be as many lines

Fields = dict[str, Any]


def drafts(
    request: Request, query: MultiDict[str, str], default: str | None, max_body: int
) -> list[Draft]:
    """Return what a form, JSON or raw body publishes; all of it is valid.

    :param query: the query's parameters, which say more about a raw body.
    :param default: the topic of events that name none; None: they are refused.
    :raises Invalid: the body, or an event in it, cannot be published.
    :raises TooLarge: the body is over `max_body` bytes, or the array over `MAX_BATCH` events.
    :raises Unreadable: the body is of a kind that the hub does not read.
    """
    check_encoding(request)
    body, kind = read(request, max_body), request.mimetype
    if kind == "application/json":
        return [
            draft(value, default) for value in cooperative(json_values.several(body, MAX_BATCH))
        ]
    if kind in {"application/x-www-form-urlencoded", "multipart/form-data"}:
        fields = forms.read(request, body)
    else:
        fields = query
        if body:
            fields["data"] = forms.text(body)
    if not any(name in fields for name in _FIELDS):
        detail = f"The request has none of {', '.join(_FIELDS)}."
        raise BadRequest(detail, "Send data=…, as in curl -d data=hello; or set a Content-Type.")
    return [draft((_plain(fields), False), default)]


def lines(
    request: Request, max_line: int, check: Callable[[], object] = bool
) -> Iterator[list[bytes]]:
    """Yield the complete lines of the body as they arrive, in batches, for as long as it lasts.

    :param check: asked now and then while nothing arrives; what it raises ends the body.
    :raises TooLarge: a line is over `max_line` bytes.
    """
    rest = bytearray()
    for piece in _pieces(request, check):
        complete, end, begun = piece.rpartition(b"\n")
        found = bytes(rest + complete).split(b"\n") if end else []
        short = found
        if found and max(map(len, found)) > max_line:
            short = list(takewhile(lambda line: len(line) <= max_line, found))
        yield short
        if end:
            rest.clear()
        rest += begun  # all of the piece where no line ends in it
        if len(short) < len(found) or len(rest) > max_line:
            detail = f"A line is over TIDINGS_MAX_BODY_BYTES, {max_line} bytes."
            raise ContentTooLarge(detail, "Send smaller events, one a line.", reason="body_bytes")
        yield_to_loop()  # a pipe that is always full never waits: let others have their turn
    if not getattr(request.environ["wsgi.input"], "cut_by_server", False):
        yield [bytes(rest)]


def parse_line(line: bytes, default: str | None) -> Draft:
    """Return what one line of NDJSON publishes.

    :raises Invalid: it cannot be published.
    """
    return draft(json_values.one(line), default)


def read(request: Request, limit: int) -> bytes:
    """Read the whole body.

    :raises TooLarge: it is over `limit` bytes.
    :raises Unavailable: as much as may is arriving already, for other requests.
    """
    source = request.environ["wsgi.input"]
    if not hasattr(source, "iter_chunks"):
        source = request.stream  # another server's may not end where the body does
    length = getattr(source, "length", None) or request.content_length
    if length and length > limit:
        raise _too_large(limit)
    most = limit + 1 if length is None else length  # to ask for more costs a second look
    body: bytes = source.read(min(most, _SMALL + 1))
    if len(body) > _SMALL:
        body = _long(source, body, limit)
    if len(body) > limit:
        raise _too_large(limit)
    return body


def _long(source: Any, begun: bytes, limit: int) -> bytes:
    """Read the rest of a body, up to a byte more than its limit, where there is memory for it."""
    pieces, size, mine = [begun], len(begun), 0
    try:
        while size <= limit:
            mine += _CHUNK  # before it has arrived: who sends half of it holds memory, too
            _arriving["bytes"] += _CHUNK
            if _arriving["bytes"] > MOST_ARRIVING * limit:
                detail = "Too many large bodies are arriving at once."
                raise ServiceUnavailable(detail, "Send it again in a moment.", reason="bodies")
            if not (piece := source.read(_CHUNK)):
                break
            pieces.append(piece)
            size += len(piece)
    finally:
        _arriving["bytes"] -= mine
    return b"".join(pieces)


def draft(value: Value, default: str | None) -> Draft:
    """Return the draft that a JSON object, or a form's fields, describe.

    :raises Invalid: it is not an object of the known members, or says what cannot be published.
    """
    item, large = value
    if not isinstance(item, dict):
        detail = "An event is a JSON object."
        raise BadRequest(detail, 'Send one like {"topic": "news", "data": "hello"}.')
    if unknown := item.keys() - _KNOWN:
        detail = f"An event has no {len(unknown)} such members; it has {', '.join(_FIELDS)}."
        raise BadRequest(detail, "Put your own members into data.")
    return Draft(
        topics=_topics(item.get("topic"), default),
        data=_data(item.get("data", ""), large=large),
        type=_string("type", item.get("type")) or None,
        id=_string("id", item.get("id")) or None,
        private=_private(item.get("private", False)),
        retry=_retry(item.get("retry")),
    )


def _pieces(request: Request, check: Callable[[], object]) -> Iterator[bytes]:
    body = request.environ["wsgi.input"]
    if hasattr(body, "iter_chunks"):
        for piece in body.iter_chunks(check):  # as long as the kernel's buffer, or less
            for start in range(0, len(piece), _LOT):
                yield piece[start : start + _LOT]
        return
    # Another server than ours: as soon as it lets us.
    while piece := request.stream.readline(_CHUNK):
        yield piece


def check_encoding(request: Request) -> None:
    """Refuse a body that is not plain UTF-8.

    :raises Unreadable: it says that it is compressed, or in another encoding.
    """
    check_charset(request.mimetype_params)
    if request.environ.get("HTTP_CONTENT_ENCODING", "identity").lower() != "identity":
        detail = "The body is compressed."
        raise UnsupportedMediaType(detail, "Send it as it is.")


def _plain(fields: MultiDict[str, str]) -> Fields:
    plain: Fields = {name: fields[name] for name in _FIELDS if name in fields}
    if "topic" in plain:
        plain["topic"] = fields.getlist("topic")
    if "private" in plain:
        # Mercure: its presence means on, whatever it says; a plain no is still taken for one.
        plain["private"] = plain["private"].lower() not in {"0", "false", "off", "no"}
    return plain


def _topics(value: object, default: str | None) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if value is None and default:
        return (default,)
    if value is None:
        detail = 'Missing "topic" parameter.'
        raise BadRequest(detail, "Name a topic; only /events has one by default.")
    topics = value if isinstance(value, list) else [value]
    if not all(isinstance(topic, str) for topic in topics):
        detail = "A topic is a string, and several are a list of strings."
        raise BadRequest(detail, 'Send "topic": "news" or "topic": ["news", "sport"].')
    return tuple(dict.fromkeys(topics))


def _data(value: object, *, large: bool) -> str:
    if isinstance(value, str):
        return value
    try:
        return json_values.written((value, large))
    except ValueError:
        detail = "The data has a number that JSON has not."
        raise BadRequest(detail, "Send null or a string instead of NaN and infinity.") from None
    except RecursionError:
        detail = "The data is nested too deeply to be written again."
        raise BadRequest(detail, "Flatten it, or send it as a string.") from None


def _string(name: str, value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        detail = f"The {name} is not a string."
        raise BadRequest(detail, f"Send {name} as a JSON string.")
    return value


def _private(value: object) -> bool:
    if not isinstance(value, bool):
        detail = "private is true or false."
        raise BadRequest(detail, "Send it as a JSON boolean.")
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
    raise BadRequest(detail, "Send milliseconds as digits.")


def _too_large(limit: int) -> ContentTooLarge:
    detail = f"The body is over TIDINGS_MAX_BODY_BYTES, {limit} bytes."
    return ContentTooLarge(
        detail, "Send less at once, or stream it as NDJSON.", reason="body_bytes"
    )
