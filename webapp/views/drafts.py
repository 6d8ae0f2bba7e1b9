"""Parse the form, JSON or raw body of a request into drafts, the events to publish."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from ..core.events import Draft
from ..errors import BadRequest
from ..scheduling import RequestSlice, cooperative
from . import bodies, forms, json_values

if TYPE_CHECKING:
    from flask import Request

    from .forms import Fields
    from .json_values import Value

MAX_BATCH = 10_000  # events in one JSON array
MAX_DIGITS = 20  # of a number in a form
_FIELDS = ("topic", "data", "type", "id", "private", "retry")
_KNOWN = frozenset(_FIELDS)
_FIELD_LIST = ", ".join(_FIELDS)
_ALIASES = {"event": "type", "name": "type", "channel": "topic"} | dict.fromkeys(
    ("body", "content", "message", "payload", "text", "value"), "data"
)
_FORMS = {"application/x-www-form-urlencoded", "multipart/form-data"}
_NO = {"0", "false", "off", "no"}  # values of `private`; with Mercure any value means private
_MAX_SHOWN = 40  # characters of an unknown field's name in an error


def parse(request: Request, body: bytes, query: Fields, default_topic: str | None) -> list[Draft]:
    """Return what a body publishes, all of it valid.

    :param query: the parameters of the URL, which describe a raw body.
    :param default_topic: of events that name no topic; None: they must name one.
    :raises BadRequest: the body, or an event in it, is not valid.
    :raises ContentTooLarge: the array has more than `MAX_BATCH` events.
    :raises UnsupportedMediaType: a form holds a file or another encoding.
    """
    kind = request.mimetype
    if kind == "application/json":
        values = json_values.several(body, MAX_BATCH)
        return [from_value(value, default_topic) for value in cooperative(values, RequestSlice())]
    if kind in _FORMS:
        fields = forms.read(request, body)
    else:
        fields = query
        if body:
            fields["data"] = [bodies.text(body)]
    found = {name: fields[name][0] for name in _FIELDS if name in fields}
    if not found:
        raise _no_fields(body)
    draft = Draft(
        topics=tuple(dict.fromkeys(fields.get("topic", ()))) or _default(default_topic),
        data=found.get("data", ""),
        type=found.get("type") or None,
        id=found.get("id") or None,
        private=found.get("private", "no").lower() not in _NO,
        retry=_retry(found.get("retry")),
    )
    return [draft]


def from_value(value: Value, default_topic: str | None) -> Draft:
    """Return the draft that a JSON object describes.

    :raises BadRequest: it is not an object, or a field is unknown or has no valid value.
    """
    item, large = value
    if not isinstance(item, dict):
        detail = "An event must be a JSON object."
        raise BadRequest(detail, 'Send one like {"topic": "news", "data": "hello"}.')
    if not item.keys() <= _KNOWN:
        raise _unknown_field(next(name for name in item if name not in _KNOWN))
    return Draft(
        topics=_topics(item.get("topic"), default_topic),
        data=_data(item.get("data", ""), large=large),
        type=_string("type", item.get("type")) or None,
        id=_string("id", item.get("id")) or None,
        private=_private(item.get("private", False)),
        retry=_retry(item.get("retry")),
    )


def _no_fields(body: bytes) -> BadRequest:
    if body.lstrip()[:1] in {b"{", b"["}:
        detail = "The body looks like JSON, but its Content-Type is that of a form."
        return BadRequest(detail, "Add the header Content-Type: application/json.")
    detail = f"The request has none of the fields {_FIELD_LIST}."
    return BadRequest(detail, "Send data=…, as in curl -d data=hello, or set a Content-Type.")


def _unknown_field(name: str) -> BadRequest:
    """Name the field, cut and without what a terminal would interpret, and the one that is near."""
    name = name[:_MAX_SHOWN]
    near = _ALIASES.get(name.lower()) or next(iter(get_close_matches(name.lower(), _FIELDS, 1)), "")
    shown = "".join(letter if letter.isprintable() else "\ufffd" for letter in name)
    guess = f'Did you mean "{near}"? ' if near else ""
    detail = f'An event has no field "{shown}".'
    return BadRequest(detail, f"{guess}Use {_FIELD_LIST}, and put all other values into data.")


def _default(topic: str | None) -> tuple[str]:
    if topic is None:
        detail = 'Missing "topic" parameter.'
        raise BadRequest(detail, "Add topic=…; only /events has a default topic.")
    return (topic,)


def _topics(value: object, default_topic: str | None) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if value is None:
        return _default(default_topic)
    topics = value if isinstance(value, list) else [value]
    if not all(isinstance(topic, str) for topic in topics):
        detail = "The topic must be a string or a list of strings."
        raise BadRequest(detail, 'Send "topic": "news" or "topic": ["news", "sport"].')
    return tuple(dict.fromkeys(topics))


def _data(value: object, *, large: bool) -> str:
    if isinstance(value, str):
        return value
    try:
        return json_values.written((value, large))
    except ValueError:
        detail = "The data contains NaN or an infinity, which JSON does not have."
        raise BadRequest(detail, "Send null or a string instead.") from None
    except RecursionError:
        detail = "The data is nested too deeply."
        raise BadRequest(detail, "Flatten it, or send it as a string.") from None


def _string(name: str, value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        detail = f"The {name} must be a string."
        raise BadRequest(detail, f"Send {name} as a JSON string.")
    return value


def _private(value: object) -> bool:
    if not isinstance(value, bool):
        detail = "The field private must be true or false."
        raise BadRequest(detail, "Send it as a JSON boolean.")
    return value


def _retry(value: object) -> int | None:
    if value is None or value == "":
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # JSON does not tell 5.0 from 5
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= MAX_DIGITS:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    detail = 'Invalid "retry" parameter.'
    raise BadRequest(detail, "Send a whole number of milliseconds, such as 3000.")
