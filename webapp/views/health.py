"""What platforms and operators ask: whether the hub works, and its numbers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from flask import Blueprint, Response, jsonify, request

from ..core.topics import TOPICS_PATH
from ..core.version import __version__
from ..errors import ServiceUnavailable
from ..metrics import CONTENT_TYPE, build_metric, log_metrics
from . import forms
from .credentials import tokens_of
from .services import current_services

if TYPE_CHECKING:
    from ..brokers.base import Bounds

PROTECTED = ("/metrics", "/console/state", TOPICS_PATH)
"""The paths that need a token where the hub has a key; each is a topic that it must grant."""

bp = Blueprint("health", __name__)


@bp.get("/healthz")
def healthz() -> Response:
    """Answer that this process lives."""
    return Response("ok\n", mimetype="text/plain")


@bp.get("/readyz")
def readyz() -> Response:
    """Answer whether this process can serve requests: the event log answers, nothing stops."""
    services = current_services()
    hub = services.hub
    if hub.draining:
        detail = "The hub is stopping."
        raise ServiceUnavailable(detail, "Send the request to another worker or machine.")
    if hub.failed:
        detail = "The hub has failed."
        raise ServiceUnavailable(detail, "Read the hub's log for the cause; the worker restarts.")
    services.log_probe.bounds()
    return Response("ready\n", mimetype="text/plain")


@bp.get("/metrics")
def metrics() -> Response:
    """Return the numbers for Prometheus."""
    _authorize()
    hub = current_services().hub
    hub.flush_metrics()
    log = log_metrics(*(_bounds() or (None, None)))
    text = hub.metrics.text([*log, build_metric(__version__)])
    return _no_store(Response(text, content_type=CONTENT_TYPE))


@bp.get("/console/state")
def console_state() -> Response:
    """Return the numbers for the console."""
    _authorize()
    services = current_services()
    services.hub.flush_metrics()
    bounds, settings = _bounds(), services.settings
    log = {
        "name": settings.broker_label,
        "up": bounds is not None,
        "floor": bounds and str(bounds.floor),
        "head": bounds and str(bounds.head),
    }
    history = {
        "events": settings.history_events,
        "age": settings.history_age,
        "bytes": settings.history_bytes,
    }
    totals = services.hub.metrics.snapshot()
    return _no_store(
        jsonify(version=__version__, now=time.time(), **totals, log=log, history=history)
    )


def _authorize() -> None:
    tokens = tokens_of(request, forms.query(request)).texts
    services = current_services()
    services.authorizer.require_read(tokens, request.path.removeprefix(services.url_prefix))


def _bounds() -> Bounds | None:
    try:
        return current_services().log_probe.bounds()
    except ServiceUnavailable:
        return None


def _no_store(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    return response
