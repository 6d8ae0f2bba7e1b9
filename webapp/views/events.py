"""Publish and subscribe: `/events`, and `/.well-known/mercure` for Mercure's clients."""

from __future__ import annotations

import datetime as dt
import json
import random
import re
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from flask import Blueprint, Response, jsonify, request, stream_with_context
from flask.globals import request_ctx

from ..auth.authorizer import token_id
from ..config.parsers import duration
from ..core import sse
from ..core.control_events import jittered_retry_ms
from ..core.events import MAX_NAME_CHARS, check_name
from ..core.topics import DEFAULT_TOPIC
from ..errors import BadRequest, ContentTooLarge, ServiceUnavailable, TidingsError, TooManyRequests
from ..hub.history import Start
from ..hub.socket_protocol import MAX_STRAY_BYTES
from ..scheduling import rest
from . import bodies, forms
from .client_address import client
from .credentials import token_from_request
from .flask_app import PreparedResponse
from .ndjson import NdjsonPublisher, PipeQuota
from .origins import check_publisher
from .rate_limit import Rate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from flask import Request
    from flask.typing import ResponseReturnValue

    from ..auth.authorizer import Authorizer
    from ..config.settings import Settings
    from ..core.events import Draft, Event
    from ..hub.hub import Hub

    Pay = Callable[[int], None]

MAX_SELECTORS = 100
MAX_CURSOR = 128  # bytes, as long as a publisher's own id may be
MAX_LAST = 999_999_999
_MAX_GET_BODY = MAX_STRAY_BYTES  # it is not read, and what comes later is taken for a word too much
_LONG_MOMENT = 40  # characters: more than any time has
_TOPIC_BYTES = 4 * MAX_NAME_CHARS  # of one topic at most
_PIPE_STEP = 500  # lines published together
_PATIENCE = 5  # seconds over which those return that found no room
CURSOR = r"[^\x00-\x1f\x7f]*"


def make_blueprint(hub: Hub, authority: Authorizer, settings: Settings) -> Blueprint:
    """Return the blueprint of both paths; on `/events` a missing topic means `events`."""
    bp = Blueprint("events", __name__)
    views = _Views(hub, authority, settings)
    for path, default in (("/events", DEFAULT_TOPIC), ("/.well-known/mercure", None)):
        for method in ("subscribe", "publish"):
            bp.add_url_rule(
                path,
                f"{method}_{default or 'mercure'}",
                partial(getattr(views, method), default),
                methods=["GET"] if method == "subscribe" else ["POST"],
            )
    return bp


class _Views:
    def __init__(self, hub: Hub, authority: Authorizer, settings: Settings) -> None:
        self._hub = hub
        self._authority = authority
        self._settings = settings
        self._rate = Rate(settings.publish_rate)
        self._pipes = PipeQuota(settings.max_pipes or 0, settings.max_pipes_per_publisher)

    def subscribe(self, default: str | None) -> ResponseReturnValue:
        """Settle all that can fail, then stream."""
        args = forms.query(request)
        first = args.to_dict()  # a MultiDict raises and catches for each key that it has not
        selectors = _selectors(args.getlist("topic") + args.getlist("match"), default)
        start, envelope = _start(first), _envelope(first.get("envelope", "0"))
        token = token_from_request(request, first)
        _refuse_large_body(request.content_length)
        try:
            grant = self._authority.reader(token)
            if request.method == "HEAD":
                return _stream(iter(()))
            address = client(request.remote_addr)
            connection = request.environ.get("tidings.connection")
            subscription = self._hub.subscribe(
                selectors, grant, start, address, envelope=envelope, connection=connection
            )
        except (ServiceUnavailable, TooManyRequests) as error:
            return self._no_room(error)
        # The stream enters the context again, which would match the route once more.
        request_ctx.url_adapter = None
        answer = _stream(stream_with_context(subscription.frames(connection)))
        # As Mercure: what was asked for, where the stream begins there.
        found = start.cursor and not subscription.lost
        begins = start.cursor if found else str(subscription.cursor)
        answer.headers["Last-Event-ID"] = begins
        if default is None:
            answer.headers["Mercure-Last-Event-ID"] = begins
        return answer

    def publish(self, default: str | None) -> ResponseReturnValue:
        """Put what the body says in the log, and answer with its ids."""
        asked = request_ctx.request  # each look through the proxy takes half a microsecond
        query = forms.query(asked)
        if not self._settings.auth_enabled:
            check_publisher(asked, self._settings)
        token = token_from_request(asked, query.to_dict(), self._settings.publish_origins)
        granted = self._authority.publisher(token)  # before a stranger's body is read
        if asked.mimetype == "application/x-ndjson":
            return self._pipe(default, token)
        pay = partial(self._pay, self._payer(token))
        pay(0)
        drafts = bodies.drafts(asked, query, default, self._settings.max_body_bytes)
        ids = [event.id for event in self._append(granted, drafts, pay)]
        if not _wants_json(asked):
            return PreparedResponse("\n".join(ids), content_type="text/plain; charset=utf-8")
        return jsonify(id=ids[-1], ids=ids, published=len(ids))

    def _pipe(self, default: str | None, token: str | None) -> ResponseReturnValue:
        """Publish each line as it arrives, for as long as the body lasts."""
        bodies.check_encoding(request)
        pay = partial(self._pay_in_time, self._payer(token))
        step = int(min(_PIPE_STEP, self._rate.burst))
        pipe = NdjsonPublisher(partial(self._append_part, token, pay), default, step)
        check, limit = partial(self._check_idle, token), self._settings.max_body_bytes
        try:
            with self._pipes.slot(self._publisher(token)):
                for lines in bodies.lines(request, limit, check):
                    pipe.take(lines)
        except TidingsError as error:
            error.extra.setdefault("line", pipe.line + 1)
            error.extra.update(published=pipe.published, last_id=pipe.last_id)
            raise
        return jsonify(published=pipe.published, last_id=pipe.last_id)

    def _check_idle(self, token: str | None) -> None:
        """Refuse a token that has ended or was revoked; one whose key is away is good meanwhile."""
        with suppress(ServiceUnavailable):
            self._authority.publisher(token)

    def _append_part(self, token: str | None, pay: Pay, drafts: list[Draft]) -> list[Event]:
        # Asked again for each part of a pipe: the token may end before it does.
        return self._append(self._authority.publisher(token), drafts, pay)

    def _append(self, granted: frozenset[str], drafts: list[Draft], pay: Pay) -> list[Event]:
        self._authority.check(granted, drafts)
        limit = self._settings.max_event_bytes
        if any(len(draft.data) * 4 > limit < len(draft.data.encode()) for draft in drafts):
            detail = f"The data of an event is over TIDINGS_MAX_EVENT_BYTES, {limit} bytes."
            raise ContentTooLarge(detail, "Publish a link to it instead.", reason="event_bytes")
        limit = self._settings.max_topic_bytes
        if any(len(it.topics) * _TOPIC_BYTES > limit < _size(it.topics) for it in drafts):
            detail = f"The topics of an event are over TIDINGS_MAX_TOPIC_BYTES, {limit} bytes."
            raise ContentTooLarge(
                detail, "Name fewer topics, or shorter ones.", reason="topic_bytes"
            )
        pay(len(drafts))
        return self._hub.publish(drafts)

    def _payer(self, token: str | None) -> str:
        return self._publisher(token) if self._settings.publish_rate else ""

    def _publisher(self, token: str | None) -> str:
        # Where there is no key anybody can make tokens up.
        auth_enabled = token and self._settings.auth_enabled
        return token_id(token or "") if auth_enabled else client(request.remote_addr)

    def _pay(self, payer: str, count: int) -> None:
        if wait := self._rate.take(payer, count):
            detail = "Events come faster than TIDINGS_PUBLISH_RATE lets one client publish."
            remedy = "Wait as long as Retry-After says, or send them through an NDJSON pipe."
            raise TooManyRequests(detail, remedy, wait=wait, reason="rate")

    def _pay_in_time(self, payer: str, count: int) -> None:
        """Slow a pipe down to its rate, until the hub stops: what has arrived is published."""
        while (wait := self._rate.take(payer, count)) and not self._hub.draining:
            rest(min(wait, 1.0))

    def _no_room(self, error: ServiceUnavailable | TooManyRequests) -> ResponseReturnValue:
        """Tell an EventSource to come back: for any status but 200 it would give up for good."""
        if "text/event-stream" not in request.headers.get("Accept", ""):
            raise error
        reason = error.reason
        self._hub.metrics.refused(reason)
        wait = self._settings.drain if reason == "drain" else _PATIENCE
        retry = jittered_retry_ms(self._settings.retry + random.uniform(0, wait))  # noqa: S311
        # No id: it would move the cursor of a reader that was sent nothing.
        return _stream([sse.encode(json.dumps({"reason": reason}), type="hub.bye", retry=retry)])


def _stream(frames: Iterable[bytes]) -> Response:
    # As they are: a layer around each frame costs every waiting reader memory.
    answer = Response(frames, content_type=sse.CONTENT_TYPE, direct_passthrough=True)
    answer.headers["Cache-Control"] = "private, no-store, no-transform"
    answer.headers["X-Accel-Buffering"] = "no"
    return answer


def _refuse_large_body(length: int | None) -> None:
    """Refuse a body that would end the stream: nothing of it is read."""
    if length and length > _MAX_GET_BODY:
        detail = f"A GET's body means nothing here, and this one is over {_MAX_GET_BODY} bytes."
        raise ContentTooLarge(detail, "Send none; topics belong into the URL.", reason="body_bytes")


def _size(topics: tuple[str, ...]) -> int:
    return sum(len(topic.encode()) for topic in topics)


def _wants_json(asked: Request) -> bool:
    if asked.environ.get("HTTP_ACCEPT", "*/*") == "*/*":
        return False
    offers = ["text/plain", "application/json"]  # the first where the client does not mind
    return asked.accept_mimetypes.best_match(offers) == "application/json"


def _selectors(texts: list[str], default: str | None) -> frozenset[str]:
    if not texts and default is None:
        detail = 'Missing "topic" parameter.'
        raise BadRequest(detail, "Name a topic; only /events has one by default.")
    if len(texts) > MAX_SELECTORS:
        detail = f"A stream has at most {MAX_SELECTORS} topics; this one asks for {len(texts)}."
        raise BadRequest(
            detail, "Open several streams, or use a URI template or *.", reason="topics"
        )
    for text in texts:
        check_name("topic", text)
    return frozenset(texts or [default or ""])


def _envelope(text: str) -> bool:
    if text not in {"0", "1"}:
        detail = "envelope is 1 or 0."
        raise BadRequest(
            detail, "Send envelope=1 to get each event as JSON with its topics, or none."
        )
    return text == "1"


def _start(args: dict[str, str]) -> Start:
    """Return where the reader asks to begin: its cursor first, which a reconnect brings."""
    header = request.headers.get("Last-Event-ID") or request.headers.get("Mercure-Last-Event-ID")
    cursor, encoding = header, "latin-1"  # PEP 3333
    if not cursor:
        cursor, encoding = args.get("last_event_id") or args.get("lastEventID"), "utf-8"
    if cursor and (len(cursor.encode(encoding)) > MAX_CURSOR or not re.fullmatch(CURSOR, cursor)):
        detail = f"A cursor has at most {MAX_CURSOR} bytes and no control characters."
        raise BadRequest(detail, "Send the id of the last event you saw, or leave it out.")
    return Start(cursor or None, _last(args.get("last")), _since(args.get("since")))


def _last(text: str | None) -> int | None:
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,20}", text) or int(text) > MAX_LAST:
        detail = "last is a whole number of events."
        raise BadRequest(detail, "Send it like last=10.")
    return int(text)


def _since(text: str | None) -> int | None:
    """Return Unix milliseconds."""
    if text is None:
        return None
    try:
        return round(max(0.0, _moment(text[:_LONG_MOMENT])) * 1000)
    except (ValueError, OverflowError):
        detail = "since is a time: ISO 8601, Unix seconds, or an age such as 15m."
        raise BadRequest(detail, "Send it like since=2026-01-31T12:00:00Z or since=15m.") from None


def _moment(text: str) -> float:
    """Return Unix seconds.

    :raises ValueError: it is no time, or one so far away that milliseconds were meant.
    """
    if re.fullmatch(r"[0-9]{1,11}(\.[0-9]{1,6})?", text):
        return float(text)
    if re.fullmatch(r"[0-9.]+[smhd]", text):
        return time.time() - duration(text)
    # Digits alone would be read as a date. An unescaped + of a zone arrives as a space.
    moment = dt.datetime.fromisoformat("" if text.isdigit() else re.sub(r"(T.*) ", r"\1+", text))
    return moment.replace(tzinfo=moment.tzinfo or dt.UTC).timestamp()
