"""The busiest topics of the last minute: `GET /console/topics`."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, request

from ..core.topics import TOPICS_PATH
from ..hub.busy_topics import busy_topics
from . import forms, own_paths, paging
from .field_names import FieldNames
from .services import current_services

_PARAMETERS = FieldNames("There is no parameter", ("limit", "authorization"), ".", {})

bp = Blueprint("console_topics", __name__)


@bp.get(own_paths.BUSY_TOPICS_PATH)
def console_topics() -> Response:
    """Return the topics with the most events of those that the client may see."""
    tokens = own_paths.require_read(TOPICS_PATH)
    args = _PARAMETERS.settle(forms.query(request), strict=True)
    first = forms.first_values(args, {"limit"}, "parameter")
    limit = paging.limit(first.get("limit"), "topics", "limit")
    services = current_services()
    found = services.call(busy_topics, services.authorizer.subscribe(tokens), limit)
    topics = [{"topic": topic, "rate": round(rate, 4)} for topic, rate in found.topics]
    return own_paths.no_store(jsonify(topics=topics, seconds=found.seconds))
