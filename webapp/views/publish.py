"""Publish: `POST /events`, and `POST /.well-known/mercure` for Mercure's clients."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING

from flask import Blueprint, jsonify

from ..core.events import MAX_NAME_CHARS
from ..core.topics import DEFAULT_TOPIC, MERCURE_PATH
from ..errors import BadRequest, ContentTooLarge, ServiceUnavailable, TidingsError, TooManyRequests
from ..scheduling import RequestSlice, cooperative, let_woken_run, sleep
from .bodies import drafts, forms, ndjson, whole_body
from .client_address import client
from .credentials import tokens_of
from .flask_app import PreparedResponse
from .origins import check_publisher
from .services import current

if TYPE_CHECKING:
    from flask import Request
    from flask.typing import ResponseReturnValue

    from ..config.settings import Settings
    from ..core.events import Draft, Event
    from .services import Services

_MAX_CHAR_BYTES = 4  # of one character in UTF-8
_MAX_TOPIC_BYTES = 4 * MAX_NAME_CHARS  # of one topic, in UTF-8
_MAX_LINES_AT_ONCE = 500  # of an NDJSON body: published together
_TEXT = ("Content-Type", "text/plain; charset=utf-8")

bp = Blueprint("publish", __name__)


@bp.post("/events", defaults={"default_topic": DEFAULT_TOPIC})
@bp.post(MERCURE_PATH, defaults={"default_topic": None})
def publish(default_topic: str | None) -> ResponseReturnValue:
    """Append the events of the body to the event log, then answer with their ids."""
    request, services = current()
    query = forms.query(request)
    publisher = _Publisher(request, services, query)
    parser = drafts.DraftParser(request, query, default_topic)
    if parser.is_pipe:
        return _publish_lines(publisher, parser, request, services)
    publisher.check_rate()
    whole_body.check_encoding(request)
    limit, quota = services.settings.max_body_bytes, services.unfinished_bodies
    content = whole_body.read(request, limit, quota, publisher.name)
    ids = [event.id for event in publisher.append(parser.parse(request, content))]
    if parser.has_lines:
        return jsonify(published=len(ids), last_id=ids[-1])
    if _wants_json(request):
        return jsonify(id=ids[-1], ids=ids, published=len(ids))
    # On Mercure's path the body is the id alone, because Mercure's libraries return it as it is.
    body = ("\n".join(ids) + ("\n" if default_topic else "")).encode()
    return PreparedResponse([body], [_TEXT, ("Content-Length", str(len(body)))])


def _publish_lines(
    publisher: _Publisher, parser: drafts.DraftParser, request: Request, services: Services
) -> ResponseReturnValue:
    """Publish each line of an NDJSON body as it arrives, until the body ends."""
    whole_body.check_encoding(request)
    at_once = int(min(_MAX_LINES_AT_ONCE, parser.lines_at_once, services.publish_rate.burst))
    pipe = ndjson.NdjsonPublisher(publisher.append_from_pipe, parser.from_value, at_once)
    max_line = services.settings.max_body_bytes
    try:
        with (
            services.pipes.share(publisher.name, 1),
            services.unfinished_bodies.share(publisher.name) as hold,
        ):
            for lines in ndjson.lines(request, max_line, publisher.check_idle, hold):
                pipe.publish_lines(lines)
    except TidingsError as error:
        error.extra.setdefault("line", pipe.line + 1)
        error.extra.update(published=pipe.published, last_id=pipe.last_id)
        raise
    return jsonify(published=pipe.published, last_id=pipe.last_id)


class _Publisher:
    """Who sent one request: what its token grants, and how fast it may publish.

    :raises Unauthorized: it needs a token, and has no valid one.
    :raises Forbidden: its token grants no publishing, or it is a page of another origin.
    """

    def __init__(self, request: Request, services: Services, query: forms.Fields) -> None:
        self._services = services
        if not services.settings.auth_enabled:
            check_publisher(request, services.settings)
        self._tokens = tokens_of(request, query, services.settings.publish_origins).texts
        self._grant = services.authorizer.publish(self._tokens)
        self.name = self._grant.token_id or client(request.remote_addr)
        """Under which limits count it: its token, or its address if tokens are not checked."""

    def check_rate(self, count: int = 0) -> None:
        """Count events that are to be published.

        :param count: 0 only looks whether one could be published now.
        :raises TooManyRequests: they are more than the rate allows now.
        """
        if not self._services.settings.publish_rate:
            return
        if wait := self._services.publish_rate.take(self.name, count):
            detail = "You publish faster than TIDINGS_PUBLISH_RATE allows one client."
            remedy = "Wait as many seconds as Retry-After says, or publish through an NDJSON pipe."
            raise TooManyRequests(detail, remedy, wait=wait, reason="rate")

    def append(self, found: list[Draft]) -> list[Event]:
        """Append events to the event log: all of them, or none."""
        self._check(found)
        self.check_rate(len(found))
        events = self._services.hub.publish(found)
        # The follower, and then the dispatcher. What is left to do for the answer takes longer than
        # to write to a few subscribers, and they wait for the event.
        let_woken_run()
        return events

    def append_from_pipe(self, found: list[Draft]) -> list[Event]:
        """Append events of a pipe. It waits until the rate allows them, or the hub stops. Its token
        is checked again, because it can expire while the pipe is open.
        """
        hub, rate = self._services.hub, self._services.publish_rate
        self._grant = self._services.authorizer.publish(self._tokens)
        self._check(found)
        while (wait := rate.take(self.name, len(found))) and not hub.draining:
            sleep(min(wait, 1.0))
        return hub.publish(found)

    def check_idle(self) -> None:
        """Check the token of a pipe that sends nothing; the key's server may be unavailable then.

        :raises Unauthorized: the token has expired or was revoked.
        """
        with suppress(ServiceUnavailable):
            self._services.authorizer.publish(self._tokens)

    def _check(self, found: list[Draft]) -> None:
        self._services.authorizer.check_topics(self._grant, found)
        check_limits(found, self._services.settings)


def check_limits(found: list[Draft], settings: Settings) -> None:
    """Refuse events that are too large for the event log, or expire later than it keeps them.

    :raises BadRequest: the `ttl` of one is over its limit.
    :raises ContentTooLarge: the data or the topics of one are.
    """
    max_data, max_topics = settings.max_event_bytes, settings.max_topic_bytes
    # Characters are counted first: nearly all events are small, and to encode a text costs more.
    large = [
        draft
        for draft in found
        if len(draft.data) * _MAX_CHAR_BYTES > max_data
        or len(draft.topics) * _MAX_TOPIC_BYTES > max_topics
        or draft.ttl
    ]
    if large:
        for draft in cooperative(large, RequestSlice()):
            _check_data_size(draft.data, max_data)
            _check_topics_size(draft.topics, max_topics)
            _check_ttl(draft.ttl or 0, settings.history_age)


def _check_data_size(data: str, limit: int) -> None:
    size = len(data.encode())
    if size > limit:
        detail = f"The data of an event is over TIDINGS_MAX_EVENT_BYTES, {limit} bytes."
        raise ContentTooLarge(detail, "Publish a link to the data instead.", reason="event_bytes")
    lines = data.count("\n") + data.count("\r") - data.count("\r\n")
    as_json = len(json.dumps(data, ensure_ascii=False).encode())  # as in an envelope
    if max(size + 6 * lines, as_json) > 2 * limit:
        detail = f"The data of an event takes over {2 * limit} bytes as text/event-stream."
        remedy = "Send fewer line feeds and control characters: each takes 6 or 7 bytes."
        raise ContentTooLarge(detail, remedy, reason="event_bytes")


def _check_topics_size(topics: tuple[str, ...], limit: int) -> None:
    if sum(len(topic.encode()) for topic in topics) > limit:
        detail = f"The topics of an event are over TIDINGS_MAX_TOPIC_BYTES, {limit} bytes."
        raise ContentTooLarge(detail, "Name fewer or shorter topics.", reason="topic_bytes")


def _check_ttl(ttl_ms: int, limit_s: float) -> None:
    if ttl_ms > limit_s * 1000:
        detail = f"The ttl is over TIDINGS_HISTORY_AGE, {limit_s:g} s: no event is kept so long."
        raise BadRequest(detail, "Send a shorter ttl, or leave it out.", reason="ttl")


def _wants_json(request: Request) -> bool:
    if request.environ.get("HTTP_ACCEPT", "*/*") == "*/*":
        return False
    offers = ["text/plain", "application/json"]  # the first one if the client accepts both
    return request.accept_mimetypes.best_match(offers) == "application/json"
