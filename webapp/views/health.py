"""What platforms and operators ask: whether the hub works, and its numbers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import gevent
from flask import Blueprint, Response, current_app, jsonify, request

from ..brokers.base import Bounds
from ..core.version import __version__
from ..errors import ServiceUnavailable
from ..metrics import CONTENT_TYPE, build_metric, log_metrics
from . import forms
from .credentials import token_from_request
from .services import current_services

if TYPE_CHECKING:
    from flask.blueprints import BlueprintSetupState

    from ..brokers.base import Broker

PROTECTED = ("/metrics", "/console/state")
"""The paths that need a token where the hub has a key; each is a topic that it must grant."""
_LOG_TIMEOUT_S = 1.0
_LOG_PROBE = "tidings.log_probe"

bp = Blueprint("health", __name__)


@bp.record
def _add_log_probe(state: BlueprintSetupState) -> None:
    hub = state.app.extensions["tidings"].hub
    state.app.extensions[_LOG_PROBE] = LogProbe(hub.broker)


@bp.get("/healthz")
def healthz() -> Response:
    """Answer that this process lives."""
    return Response("ok\n", mimetype="text/plain")


@bp.get("/readyz")
def readyz() -> Response:
    """Answer whether this process can serve requests: the event log answers, nothing stops."""
    hub = current_services().hub
    if hub.draining:
        detail = "The hub is stopping."
        raise ServiceUnavailable(detail, "Send the request to another worker or machine.")
    if hub.failed:
        detail = "The hub has failed."
        raise ServiceUnavailable(detail, "Read the hub's log for the cause; the worker restarts.")
    current_app.extensions[_LOG_PROBE].bounds()
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


class LogProbe:
    """Asks the event log for its bounds, once for all requests that wait for the same answer."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._call: gevent.Greenlet[[], Bounds | ServiceUnavailable] | None = None

    def bounds(self) -> Bounds:
        """Return where the event log begins and ends now.

        :raises ServiceUnavailable: it cannot be reached, or does not answer within a second.
        """
        if self._call is None or self._call.ready():
            self._call = gevent.spawn(self._ask)
        call = self._call
        call.join(_LOG_TIMEOUT_S)
        found = call.value  # None until it has an answer
        if isinstance(found, Bounds):
            return found
        if found is not None:
            # A copy: each raise would add its frames to the traceback of a shared error.
            raise ServiceUnavailable(found.detail, found.remedy, **found.extra)
        detail = f"The event log did not answer within {_LOG_TIMEOUT_S:g} s."
        remedy = "Check the load of its server or disk; the hub continues when it answers."
        raise ServiceUnavailable(detail, remedy)

    def _ask(self) -> Bounds | ServiceUnavailable:
        try:
            return self._broker.bounds()
        except ServiceUnavailable as error:  # gevent would print what a greenlet raises
            return error


def _authorize() -> None:
    token = token_from_request(request, forms.query(request))
    current_services().authorizer.require_read(token, request.path)


def _bounds() -> Bounds | None:
    try:
        found: Bounds = current_app.extensions[_LOG_PROBE].bounds()
    except ServiceUnavailable:
        return None
    return found


def _no_store(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    return response
