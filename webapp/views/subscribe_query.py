"""What a subscriber asks for in its URL and headers."""

from __future__ import annotations

import datetime as dt
import re
import time
from typing import TYPE_CHECKING, NamedTuple, Self

from ..config.parsers import duration
from ..core.events import check_name
from ..errors import BadRequest, ContentTooLarge
from ..hub.delivery.feeds import Form
from ..hub.reads.start import FROM_NOW, Start
from ..hub.socket_protocol import MAX_STRAY_BYTES
from . import paging
from .bodies import forms
from .bodies.field_names import TOPIC_LIST, FieldNames
from .credentials import Tokens, tokens_of
from .cursors import ALIAS, cursors

if TYPE_CHECKING:
    from flask import Request

MAX_PATTERNS = 100
MAX_LAST_EVENTS = 999_999_999
_PARAMETERS = FieldNames(
    "There is no parameter",
    (
        "topic",
        "match",
        "last_event_id",
        "latest",
        "last",
        "since",
        "wait",
        "limit",
        "envelope",
        "control",
        "console",
        "authorization",
    ),
    ".",
    {"topic": TOPIC_LIST, "last_event_id": ALIAS},
)
_SINGLE = {"latest", "last", "since", "wait", "limit", "envelope", "control", "console"}
_STREAM_TYPES = ("text/event-stream", "text/*", "*/*")  # in `Accept`: a client reads a stream
_MAX_BODY_BYTES = MAX_STRAY_BYTES  # a body is not read, and more would be taken for a new request
_MAX_TIME_CHARS = 40


class SubscribeQuery(NamedTuple):
    """The parsed request of a subscriber.

    :param patterns: the topic patterns that it asks for.
    :param start: where its stream begins.
    :param form: in which form it is sent events.
    :param tokens: the tokens that it sends.
    :param waits: whether its stream waits for new events; else it ends.
    :param limit: how many events one JSON document has at most; None: it asks for a stream.
    """

    patterns: frozenset[str]
    start: Start
    form: Form
    tokens: Tokens
    waits: bool = True
    limit: int | None = None

    @classmethod
    def parse(cls, request: Request, default_topic: str | None) -> Self:
        """Read the request.

        :param default_topic: used where the request names no topic; None: it must name one.
        :raises BadRequest: a parameter is missing or has no valid value.
        :raises ContentTooLarge: the request has a body that cannot be ignored.
        """
        args = _PARAMETERS.settle(forms.query(request))
        first = forms.first_values(args, _SINGLE, "parameter")
        query = cls(
            parse_patterns(args.get("topic", []) + args.get("match", []), default_topic),
            _start(request, args, first),
            _form(first, "0" if default_topic is None else "1"),
            tokens_of(request, args),
            "wait" not in first or forms.flag("wait", first["wait"]),
            _limit(request, first),
        )
        # `content_length` looks through all headers.
        if "CONTENT_LENGTH" in request.environ and (request.content_length or 0) > _MAX_BODY_BYTES:
            detail = f"The GET request has a body of more than {_MAX_BODY_BYTES} bytes."
            remedy = "Send no body; put the topics into the URL."
            raise ContentTooLarge(detail, remedy, reason="body_bytes")
        return query


def parse_patterns(texts: list[str], default_topic: str | None) -> frozenset[str]:
    """Return the topics and patterns of a request.

    :param default_topic: used where it names none; None: it must name one.
    :raises BadRequest: one is not valid, or there are too many.
    """
    if not texts and default_topic is None:
        detail = 'Missing "topic" parameter.'
        raise BadRequest(detail, "Add topic=…; only /events has a default topic.")
    if len(texts) > MAX_PATTERNS:
        detail = f"A stream has at most {MAX_PATTERNS} topics; this one asks for {len(texts)}."
        raise BadRequest(
            detail, "Open several streams, or use a URI template or *.", reason="topics"
        )
    for text in texts:
        check_name("topic", text)
    return frozenset(texts or [default_topic or ""])


def _limit(request: Request, args: dict[str, str]) -> int | None:
    """Return how many events a JSON document has at most; None: the client gets a stream."""
    accept = request.environ.get("HTTP_ACCEPT", "").lower()
    if "application/json" not in accept or args.get("wait") == "1":
        return None
    names = {it.partition(";")[0].strip() for it in accept.split(",")}
    if "application/json" not in names or not names.isdisjoint(_STREAM_TYPES):
        return None
    return paging.limit(args.get("limit"), "events", "last_event_id")


def _form(args: dict[str, str], default_control: str) -> Form:
    """Return the form of events.

    :param default_control: used where the request does not say whether to send control events.
    """
    envelope, control = args.get("envelope", "0"), args.get("control", default_control)
    form = Form(forms.flag("envelope", envelope), forms.flag("control", control))
    is_console = "console" in args and forms.flag("console", args["console"])
    return form._replace(console=True) if is_console else form


def _start(request: Request, args: forms.Fields, first: dict[str, str]) -> Start:
    """Return where the stream begins. A cursor counts first: a client that reconnects sends one."""
    found, last, since = cursors(request, args), first.get("last"), first.get("since")
    latest = "latest" in first and forms.flag("latest", first["latest"])
    if not found and last is None and since is None and not latest:
        return FROM_NOW
    cursor, *others = found or (None,)
    return Start(cursor, _last(last), _since(since), tuple(others), latest)


def _last(text: str | None) -> int | None:
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,20}", text) or int(text) > MAX_LAST_EVENTS:
        detail = f"The parameter last must be a number of events from 0 to {MAX_LAST_EVENTS}."
        raise BadRequest(detail, "Send it like last=10.")
    return int(text)


def _since(text: str | None) -> int | None:
    """Return Unix milliseconds."""
    if text is None:
        return None
    try:
        return round(max(0.0, _unix_time(text[:_MAX_TIME_CHARS])) * 1000)
    except (ValueError, OverflowError):
        detail = "The parameter since must be an ISO 8601 time, Unix seconds, or an age like 15m."
        raise BadRequest(detail, "Send it like since=2026-01-31T12:00:00Z or since=15m.") from None


def _unix_time(text: str) -> float:
    """Return Unix seconds.

    :raises ValueError: it is not a time, or so far in the future that milliseconds were meant.
    """
    if re.fullmatch(r"[0-9]{1,11}(\.[0-9]{1,6})?", text):
        return float(text)
    if re.fullmatch(r"[0-9.]+(ms|[smhdw])", text):
        return time.time() - duration(text)
    # fromisoformat would read digits alone as a date. The + of a time zone, if it was not
    # percent-encoded, arrives as a space.
    moment = dt.datetime.fromisoformat("" if text.isdigit() else re.sub(r"(T.*) ", r"\1+", text))
    return moment.replace(tzinfo=moment.tzinfo or dt.UTC).timestamp()
