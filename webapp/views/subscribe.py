"""Subscribe: `GET /events`, and `GET /.well-known/mercure` for Mercure's clients."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from flask import Blueprint, Response, stream_with_context
from flask.globals import request_ctx

from ..auth.authorizer import ANONYMOUS
from ..core import sse
from ..core.control_events import retry_field
from ..core.topics import DEFAULT_TOPIC, MERCURE_PATH
from ..errors import Gone, ServiceUnavailable, TooManyRequests
from ..hub.listings.finite_stream import read_to_end
from .client_address import client
from .content_coding import coding_headers, gzip_wanted
from .event_document import event_document
from .flask_app import PreparedResponse
from .own_paths import STATE_PATH
from .services import current
from .subscribe_query import SubscribeQuery
from .unreadable_origins import log_unreadable

if TYPE_CHECKING:
    from flask import Request

    from ..hub.reads.start import Start
    from ..hub.socket_protocol import SubscriberSocket
    from ..hub.streams.stream import Stream
    from .services import Services

_HEADERS = (
    ("Content-Type", sse.CONTENT_TYPE),
    ("Cache-Control", "private, no-store, no-transform"),
    ("X-Accel-Buffering", "no"),
)
_RETURN_WITHIN_S = 5  # subscribers of a full hub come back spread over this time

bp = Blueprint("subscribe", __name__)


class _Asked(NamedTuple):
    """A request to subscribe. It is made only for an answer that needs all of it."""

    request: Request
    services: Services
    query: SubscribeQuery
    default_topic: str | None  # None: on the path for Mercure's clients


@bp.get("/events", defaults={"default_topic": DEFAULT_TOPIC})
@bp.get(MERCURE_PATH, defaults={"default_topic": None})
def subscribe(default_topic: str | None) -> Response:
    """Settle everything that can fail, then stream events until the subscriber disconnects."""
    request, services = current()
    query = SubscribeQuery.parse(request, default_topic)
    socket = request.environ.get("tidings.connection")
    grant = ANONYMOUS
    try:
        tokens, in_cookies = query.tokens
        grant = services.authorizer.subscribe(tokens, in_cookies=in_cookies)
        if query.form.console:
            services.authorizer.require_read(tokens, STATE_PATH)
        if query.limit is not None:
            return event_document(request, services, query, grant, query.limit)
        form = query.form
        if gzip_wanted(request.environ, grant, services.settings):
            form = form._replace(gzip=True)
        if request.method == "HEAD":
            return Response(headers=[*_HEADERS, *coding_headers(form.gzip, services.settings)])
        begin = services.hub.subscribe if query.waits else partial(services.call, read_to_end)
        name = client(request.remote_addr)
        stream = begin(query.patterns, grant, query.start, name, form=form, socket=socket)
    except (ServiceUnavailable, TooManyRequests) as error:
        asked = _Asked(request, services, query, default_topic)
        return _refused(error.about(grant.subject), asked)
    if stream.reset_reason and default_topic and not form.control and not stream.snapshot:
        raise _gone(stream.reset_reason)
    if stream.reason == "ended" and not (stream.reset_reason and form.control):
        return _nothing_left(socket)
    log_unreadable(request, services.settings)
    headers = _headers(stream, query.start, default_topic)
    headers += coding_headers(form.gzip, services.settings)
    request.environ["tidings.stream"] = services.settings.embedded
    if services.settings.embedded:
        asked = _Asked(request, services, query, default_topic)
        return _stream_in_app(stream, headers, asked)
    frames = stream.frames(socket)
    # stream_with_context enters the request context again, which would match the URL again.
    request_ctx.url_adapter = None
    return PreparedResponse(stream_with_context(frames), headers)


def _nothing_left(socket: SubscriberSocket | None) -> Response:
    """Answer a client that has all events of ended topics. An EventSource then stops."""
    if socket:
        socket.answer_last()  # what the client sent meanwhile was thrown away
    return Response(status=204, headers={"Cache-Control": "private, no-store"})


def _stream_in_app(stream: Stream, headers: list[tuple[str, str]], asked: _Asked) -> Response:
    """Stream without the app's context, which may hold a database connection."""
    try:
        frames = asked.services.frames(stream, asked.request.environ)
    except ServiceUnavailable as error:  # the server holds no more of them
        return _refused(error.about(stream.grant.subject), asked)
    return Response(frames, headers=headers)


def _headers(stream: Stream, start: Start, default_topic: str | None) -> list[tuple[str, str]]:
    """Return the headers of a stream: as with Mercure, the cursor if the stream continues there."""
    if stream.snapshot:
        return list(_HEADERS)  # the client has no cursor before the snapshot has ended
    continues = start.cursor and not start.other_cursors and not stream.reset_reason
    position = (continues and start.cursor) or str(stream.cursor)
    missed_presence = start.cursor and stream.feed.wants_presence and not stream.feed.form.control
    if missed_presence or (stream.reset_reason and default_topic is None):
        position = "earliest"  # so Mercure says that it does not know the cursor
    headers = [*_HEADERS, ("Last-Event-ID", position)]
    if default_topic is None:
        headers.append(("Mercure-Last-Event-ID", position))
    return headers


def _gone(reset_reason: str) -> Gone:
    remedy = "Subscribe without a cursor, and load your state again."
    if reset_reason == "aged":
        return Gone("Events after the cursor are no longer kept.", remedy, reason="aged")
    return Gone("The hub does not know the cursor.", remedy, reason=reset_reason)


def _refused(error: ServiceUnavailable | TooManyRequests, asked: _Asked) -> Response:
    """Answer an EventSource with a stream that ends and says when to return: after any status but
    200 it would never reconnect. Raise the error for all other clients.
    """
    request, services, query, default_topic = asked
    control = query.form.control
    if not control and default_topic:
        raise error
    if "text/event-stream" not in request.headers.get("Accept", ""):
        raise error
    reason, settings = error.reason, services.settings
    services.hub.metrics.refused.add(1, reason)
    services.refusal_log.note(error, request)
    within = settings.drain if reason == "drain" else _RETURN_WITHIN_S
    # Without an id, which would move the cursor of a subscriber that was sent no event.
    bye = sse.encode(json.dumps({"reason": reason}), type="hub.bye") if control else b""
    request.environ["tidings.stream"] = settings.embedded
    return Response([retry_field(settings.retry, within) + bye], headers=_HEADERS)
