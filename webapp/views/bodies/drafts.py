"""Parse the form, JSON or raw body of a request into drafts, the events to publish."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from ...config.parsers import duration
from ...core.events import Draft
from ...core.json_members import RepeatedMembers
from ...errors import BadRequest
from ...scheduling import RequestSlice, cooperative
from . import batch_limits, forms, json_values, whole_body
from .field_names import TOPIC_LIST, FieldNames

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flask import Request

    from .forms import Fields
    from .json_values import Value

MAX_DIGITS = 20  # of a number in a form
_FIELDS = ("topic", "data", "type", "id", "private", "retry", "end", "ttl")
_KNOWN = frozenset(_FIELDS)
_PLAIN = frozenset(("topic", "data"))  # all that most events have
_SINGLE = _KNOWN - {"topic"}
_OF_ONE_EVENT = ("id", "end")  # in the URL, which is for all events of the body
_ALIASES = {"topic": TOPIC_LIST}
_ADVICE = ", and put all other values into data; or add raw=1 to the URL to publish the whole body."
_EVENT = FieldNames("An event has no field", _FIELDS, _ADVICE, _ALIASES)
_URL = FieldNames("There is no parameter", (*_FIELDS, "raw", "authorization"), ".", _ALIASES)
_JSON, _NDJSON = "application/json", "application/x-ndjson"
_FORMS = {"application/x-www-form-urlencoded", "multipart/form-data"}
_NO = {"0", "false", "off", "no"}  # values of `private`; with Mercure any value means private
_YES = {"1", "true", "on", "yes"}


class DraftParser:
    """Parses the body of one request into drafts. What its URL says holds for all of them.

    :param request: its content type says how to read the body, unless the URL has `raw=1`.
    :param query: the parameters of the URL.
    :param default_topic: of events that name no topic. None: they must name one, and their unknown
        fields are ignored, as Mercure does.
    :raises BadRequest: a parameter has no valid value, or a name that looks like another.
    """

    def __init__(self, request: Request, query: Fields, default_topic: str | None) -> None:
        self._kind = request.mimetype
        self._default_topic = default_topic
        self._url = query
        if not query.keys() <= _KNOWN:
            self._read_url(_URL.settle(query))

    @property
    def has_lines(self) -> bool:
        """Whether the body is NDJSON."""
        return self._kind == _NDJSON

    @property
    def is_pipe(self) -> bool:
        """Whether each line of the body can be published as it arrives."""
        return self._kind == _NDJSON and self._url.keys().isdisjoint(("data", *_OF_ONE_EVENT))

    @property
    def lines_at_once(self) -> int:
        """How many lines of the body may be published together."""
        return batch_limits.lines_at_once(self._url)

    def parse(self, request: Request, body: bytes) -> list[Draft]:
        """Return what a body publishes, all of it valid.

        :raises BadRequest: the body, or an event in it, is not valid.
        :raises ContentTooLarge: an array is over a limit; see `batch_limits`.
        :raises UnsupportedMediaType: a form holds a file or another encoding.
        """
        if "data" in self._url:
            if body:
                detail = "The URL has the field data, and the request has a body."
                raise BadRequest(detail, "Send the data in one of them only.")
            return [self._from_fields({})]
        if self._kind not in {_JSON, _NDJSON}:
            return [self._from_fields(self._fields(request, body))]
        values = self._values(body)
        if len(values) > 1:
            self._refuse_several()
            batch_limits.check_bytes(len(values), len(body), self._url)
        found = (self.from_value(value) for value in cooperative(values, RequestSlice()))
        return batch_limits.check_topics(found)

    def from_value(self, value: Value) -> Draft:
        """Return the draft that a JSON object describes.

        :raises BadRequest: it is not an object, or a field is unknown or has no valid value.
        """
        item, large = value
        if type(item) is not dict:
            self._check_object(item)
        if not item.keys() <= _KNOWN:
            _EVENT.check(item, strict=self._default_topic is not None)
        if self._url:
            self._check_apart(item)
            item.update(self._url_members)
        topics = _topics(item.get("topic"), self._default_topic)
        data = _data(item.get("data", ""), large=large)
        if item.keys() <= _PLAIN:  # to read the other fields of each line takes a twentieth of it
            return Draft(topics=topics, data=data)
        return Draft(
            topics=topics,
            data=data,
            type=_string("type", item.get("type")) or None,
            id=_string("id", item.get("id")) or None,
            private=_private(item.get("private", False)),
            retry=_retry(item.get("retry")),
            ended=_end(item.get("end")),
            ttl=ttl_ms(item.get("ttl")),
        )

    def _check_object(self, item: object) -> None:
        if not isinstance(item, dict):
            detail = "An event must be a JSON object."
            raise BadRequest(detail, 'Send one like {"topic": "news", "data": "hello"}.')
        if isinstance(item, RepeatedMembers) and (names := item.names & _KNOWN):
            raise forms.repeated(min(names), "Send it once, and several topics as a list.")

    def _read_url(self, query: Fields) -> None:
        self._url = {name: query[name] for name in _FIELDS if name in query}
        raw = forms.first_values(query, {"raw"}, "parameter").get("raw")
        if raw and forms.flag("raw", raw):
            self._kind = ""

    @cached_property
    def _url_members(self) -> dict[str, object]:
        """The fields of the URL as those of a JSON object."""
        members: dict[str, object] = dict(forms.first_values(self._url, _SINGLE))
        if "topic" in members:
            members["topic"] = tuple(dict.fromkeys(self._url["topic"]))
        if "private" in members:
            members["private"] = _is_private(self._url["private"][0])
        return members

    def _values(self, body: bytes) -> list[Value]:
        if self._kind == _JSON:
            return json_values.several(body)
        line = body.strip()
        if b"\n" in line:
            self._refuse_several()
        return [json_values.one(line)]

    def _fields(self, request: Request, body: bytes) -> Fields:
        """Return the fields of a form, or the body as the data."""
        if self._kind not in _FORMS:
            return {"data": [whole_body.text(body)]} if body else {}
        fields = forms.read(request, body)
        if not fields.keys() <= _KNOWN:
            if body.lstrip()[:1] in {b"{", b"["}:
                detail = "The body looks like JSON, but its Content-Type is that of a form."
                raise BadRequest(detail, "Add the header Content-Type: application/json.")
            if b"=" not in body:
                raise _no_fields()  # it is some text
            fields = _EVENT.settle(fields, strict=self._default_topic is not None)
        return fields

    def _from_fields(self, fields: Fields) -> Draft:
        if self._url:
            self._check_apart(fields)
            fields = fields | self._url
        if _KNOWN.isdisjoint(fields):
            raise _no_fields()
        found = forms.first_values(fields, _SINGLE)
        return Draft(
            topics=tuple(dict.fromkeys(fields.get("topic", ()))) or _default(self._default_topic),
            data=found.get("data", ""),
            type=found.get("type") or None,
            id=found.get("id") or None,
            private=_is_private(found.get("private", "no")),
            retry=_retry(found.get("retry")),
            ended=_end(found.get("end")),
            ttl=ttl_ms(found.get("ttl")),
        )

    def _refuse_several(self) -> None:
        """Refuse several events if the URL has a field that belongs to one."""
        for name in _OF_ONE_EVENT:
            if name in self._url:
                detail = f"The URL has the field {name}, and the body has more than one event."
                raise BadRequest(detail, f"Put {name} into the event that it belongs to.")

    def _check_apart(self, fields: Iterable[str]) -> None:
        """Refuse a field of an event that is in the URL too."""
        if self._url.keys().isdisjoint(fields):
            return
        name = next(name for name in fields if name in self._url)
        detail = f'The field "{name}" is in the URL and in the body.'
        raise BadRequest(detail, "Send it in one of them only.")


def ttl_ms(value: object) -> int | None:
    """Return the milliseconds of a `ttl`: a number of seconds, or a text such as `90` or `10m`.

    0: it is no duration, and a draft refuses it.
    """
    if value is None or value == "":
        return None
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return round(value * 1000)  # as text it may have more digits than a duration
        return round(duration("" if isinstance(value, bool) else str(value)) * 1000)
    except (ValueError, OverflowError):  # the second: it is infinite
        return 0


def _no_fields() -> BadRequest:
    detail = f"The request has none of the fields {', '.join(_FIELDS)}."
    return BadRequest(detail, "Send data=…, as in curl -d data=hello; or Content-Type: text/plain.")


def _is_private(text: str) -> bool:
    return text.lower() not in _NO


def _default(topic: str | None) -> tuple[str]:
    if topic is None:
        detail = 'Missing "topic" parameter.'
        raise BadRequest(detail, "Add topic=…; only /events has a default topic.")
    return (topic,)


def _topics(value: object, default_topic: str | None) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, tuple):  # of the URL
        return value
    if value is None:
        return _default(default_topic)
    topics = value if isinstance(value, list) else [value]
    if not all(isinstance(topic, str) for topic in topics):
        detail = "The field topic must be a string or a list of strings."
        raise BadRequest(detail, 'Send "topic": "news" or "topic": ["news", "sport"].')
    return tuple(dict.fromkeys(topics))


def _data(value: object, *, large: bool) -> str:
    if isinstance(value, str):
        return value
    try:
        return json_values.to_json((value, large))
    except ValueError:
        detail = "The data contains NaN or an infinity, which JSON does not have."
        raise BadRequest(detail, "Send null or a string instead.") from None
    except RecursionError:
        detail = "The data is nested too deeply."
        raise BadRequest(detail, "Flatten it, or send it as a string.") from None


def _string(name: str, value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        detail = f"The field {name} must be a string."
        raise BadRequest(detail, "Send it as a JSON string.")
    return value


def _private(value: object) -> bool:
    if not isinstance(value, bool):
        detail = "The field private must be true or false."
        raise BadRequest(detail, "Send it as a JSON boolean.")
    return value


def _end(value: object) -> bool:
    if value is None or isinstance(value, bool):
        return bool(value)
    text = str(value).lower() if isinstance(value, int | str) else ""
    if text not in _NO | _YES:
        detail = "The field end must be 1 or 0."
        raise BadRequest(detail, "Send end=1 with the last event of a topic, or leave it out.")
    return text in _YES


def _retry(value: object) -> int | None:
    if value is None or value == "":
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # JSON does not tell 5.0 from 5
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= MAX_DIGITS:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    detail = "The field retry must be a whole number of milliseconds."
    raise BadRequest(detail, "Send it like 3000.")
