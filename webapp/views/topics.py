"""List topics: `GET /topics`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, Response, jsonify

from ..core.events import check_name
from ..core.topics import EVERYTHING, TOPICS_PATH
from ..hub.listings.topic_listing import list_topics
from . import paging
from .bodies import forms
from .bodies.field_names import TOPIC_LIST, FieldNames
from .client_address import client
from .credentials import tokens_of
from .services import current
from .subscribe_query import parse_patterns

if TYPE_CHECKING:
    from flask import Request

    from ..hub.listings.topic_listing import ListedTopic
    from .services import Services

_PARAMETERS = FieldNames(
    "There is no parameter",
    ("topic", "match", "limit", "after", "authorization"),
    ".",
    {"topic": TOPIC_LIST},
)

bp = Blueprint("topics", __name__)


@bp.get(TOPICS_PATH)
def topics() -> Response:
    """Return a page of the topics of which the client may see an event."""
    request, services = current()
    found, more = find_page(request, services, _PARAMETERS.settle(forms.query(request)))
    response = jsonify(topics=[document(it) for it in found], more=more)
    response.headers["Cache-Control"] = "private, no-cache"
    response.add_etag()
    response.make_conditional(request)
    return response


def find_page(
    request: Request, services: Services, args: forms.Fields
) -> tuple[list[ListedTopic], bool]:
    """Return the topics that a request asks for, and whether there are more."""
    first = forms.first_values(args, {"limit", "after"}, "parameter")
    patterns = parse_patterns(args.get("topic", []) + args.get("match", []), EVERYTHING)
    limit, after = paging.limit(first.get("limit"), "topics", "after"), first.get("after", "")
    if after:
        check_name("topic", after)
    tokens = tokens_of(request, args)
    services.authorizer.require_read(tokens.texts, TOPICS_PATH)
    grant = services.authorizer.subscribe(tokens.texts, in_cookies=tokens.in_cookies)
    return services.call(
        list_topics,
        patterns,
        grant,
        after=after,
        limit=limit,
        client=client(request.remote_addr),
        socket=request.environ.get("tidings.connection"),
    )


def document(topic: ListedTopic) -> dict[str, object]:
    """Return what a client reads of a topic."""
    return {
        "topic": topic.topic,
        "last_id": str(topic.newest),
        "time": topic.newest.ms,
        "events": topic.events,
        "ended": topic.ended,
    }
