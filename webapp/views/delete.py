"""Remove events: `DELETE /events`, and `DELETE /.well-known/mercure`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, Response, jsonify

from ..core.events import HubDraft, check_name
from ..core.topics import EVERYTHING, MERCURE_PATH, TopicPatterns, grants
from ..errors import BadRequest, Forbidden, InsufficientScope, TooManyRequests
from ..hub.deletion import delete
from ..scheduling import cooperative
from .bodies import forms
from .bodies.field_names import TOPIC_LIST, FieldNames
from .client_address import client
from .credentials import tokens_of
from .origins import check_publisher
from .services import current

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Request

    from ..auth.authorizer import Grant
    from ..core.events import Draft
    from .bodies.forms import Fields
    from .services import Services

_PARAMETERS = FieldNames(
    "There is no parameter",
    ("topic", "id", "authorization"),
    " in the query.",
    {"topic": TOPIC_LIST},
)

bp = Blueprint("delete", __name__)


@bp.delete("/events")
@bp.delete(MERCURE_PATH)
def delete_events() -> Response:
    """Remove one event, or all events of one canonical topic; answer how many there were."""
    request, services = current()
    query = forms.query(request)
    grant = _publisher(request, services, query)
    args = _PARAMETERS.settle(query, strict=True)
    topic, event_id = _topic(args), _event_id(args)
    services.authorizer.check_topics(grant, [HubDraft(topics=(topic,))])
    deleted = services.call(
        delete,
        topic,
        event_id,
        _authorize(grant),
        client=client(request.remote_addr),
        socket=request.environ.get("tidings.connection"),
    )
    return jsonify(deleted=deleted)


def _publisher(request: Request, services: Services, query: Fields) -> Grant:
    """Return what a client may publish, and so remove."""
    settings = services.settings
    if not settings.auth_enabled:
        check_publisher(request, settings)
        if settings.open:
            detail = "This hub has no key, and everybody who can reach it could remove events."
            raise Forbidden(detail, "Set TIDINGS_JWT_KEY, and send a token.")
    tokens = tokens_of(request, query, settings.publish_origins).texts
    grant = services.authorizer.publish(tokens)
    name = grant.token_id or client(request.remote_addr)
    if settings.publish_rate and (wait := services.publish_rate.take(name, 1)):
        detail = "You send requests faster than TIDINGS_PUBLISH_RATE allows one client."
        remedy = "Wait as many seconds as Retry-After says."
        raise TooManyRequests(detail, remedy, wait=wait, reason="rate")
    return grant


def _topic(args: Fields) -> str:
    topic = _only(args, "topic", "Send a request for each topic.")
    if not topic:
        detail = 'Missing "topic" parameter.'
        remedy = "Add topic=… to the URL, the first topic of what to remove; for one event, id=…."
        raise BadRequest(detail, remedy)
    check_exact(topic)
    return topic


def check_exact(topic: str) -> None:
    """Refuse a topic pattern.

    :raises BadRequest: it is one, or is no valid topic.
    """
    if topic == EVERYTHING or TopicPatterns(frozenset([topic])).templates:
        detail = "The topic is a pattern. Only an exact name says what to remove."
        raise BadRequest(detail, "Send a request for each topic; GET /topics lists their names.")
    check_name("topic", topic)


def _event_id(args: Fields) -> str | None:
    event_id = _only(args, "id", "Send a request for each event.")
    if event_id == "":
        detail = "The parameter id is empty."
        raise BadRequest(detail, "Send the event's id, or leave it out to remove the whole topic.")
    return event_id


def _only(args: Fields, name: str, remedy: str) -> str | None:
    values = args.get(name, [None])
    if len(values) > 1:
        raise forms.repeated(name, remedy, "parameter")
    return values[0]


def _authorize(grant: Grant) -> Callable[[Draft], None] | None:
    """Return what refuses events with a topic that is not granted; None: all topics are."""
    patterns = grant.publish or frozenset()
    if EVERYTHING in patterns:
        return None

    def authorize(draft: Draft) -> None:
        if not all(grants(patterns, it) for it in cooperative(draft.topics)):
            detail = "An event has other topics, too, which the token's mercure.publish lacks."
            remedy = 'Use a token whose mercure.publish matches all topics of the event: ["*"].'
            raise InsufficientScope(detail, remedy)

    return authorize
