"""Topics with their rates and subscribers: `GET /console/topics`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, jsonify

from ...core.topics import TOPICS_PATH, grants
from ...hub.listings.busy_topics import busy_topics
from .. import own_paths, paging, topics
from ..bodies import forms
from ..bodies.field_names import TOPIC_LIST, FieldNames
from ..services import current

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...auth.authorizer import Grant
    from ...hub.hub import Hub
    from ...hub.subscriber_counts import Counts
    from ..services import Services

_PAGE = ("topic", "after")  # who sends one of these wants a page of all topics
_PARAMETERS = FieldNames(
    "There is no parameter", (*_PAGE, "limit", "authorization"), ".", {"topic": TOPIC_LIST}
)

bp = Blueprint("console_topics", __name__)


@bp.get(own_paths.BUSY_TOPICS_PATH)
def console_topics() -> Response:
    """Return the topics with the most events of those that the client may see, or a page of all."""
    tokens = own_paths.require_read(TOPICS_PATH)
    request, services = current()
    args = _PARAMETERS.settle(forms.query(request), strict=True)
    grant = services.authorizer.subscribe(tokens)
    rows, more = list[dict[str, Any]](), False
    if is_page := not args.keys().isdisjoint(_PAGE):
        found, more = topics.find_page(request, services, args)
        rows = [topics.document(it) for it in found]
    busy = services.call(busy_topics, grant)
    if not is_page:
        first = forms.first_values(args, {"limit"}, "parameter")
        limit = paging.limit(first.get("limit"), "topics", "after")
        rows, more = [{"topic": it} for it in busy.most(limit)], len(busy.counts) > limit
    subscribers, counts = services.call(_subscribers, [it["topic"] for it in rows])
    for row in rows:
        topic = row["topic"]
        row |= {"rate": busy.rate(topic), "subscribers": subscribers.get(topic)}
    patterns = _patterns(services, grant, counts)
    answer = jsonify(topics=rows, more=more, seconds=busy.seconds, patterns=patterns)
    return own_paths.no_store(answer)


def _subscribers(hub: Hub, wanted: Sequence[str]) -> tuple[dict[str, int], Counts]:
    hub.flush_metrics()
    pids = hub.metrics.numbers().values["worker_pid"].values()
    return hub.sampler.subscribers.sum(wanted, [round(it) for it in pids if it])


def _patterns(services: Services, grant: Grant, counts: Counts) -> list[dict[str, Any]] | None:
    """Return the patterns that a client may see; None: they are not known yet."""
    if not counts.complete:
        return None
    sees_all = services.settings.loopback_only
    return [
        {"pattern": it, "subscribers": number}
        for it, number in counts.patterns.items()
        if sees_all or grants(grant.subscribe, it)
    ]
