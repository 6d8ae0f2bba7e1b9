"""Health checks and metrics: `GET /healthz`, `GET /readyz` and `GET /metrics`."""

from __future__ import annotations

from flask import Blueprint, Response

from ..core.version import __version__
from ..errors import ServiceUnavailable
from ..monitoring.metrics import CONTENT_TYPE, build_metric, log_metrics
from . import own_paths
from .services import current_services

bp = Blueprint("health", __name__)


@bp.get("/healthz")
def healthz() -> Response:
    """Answer that this process runs."""
    return Response("ok\n", mimetype="text/plain")


@bp.get("/readyz")
def readyz() -> Response:
    """Answer whether this process can serve requests: the event log answers, the hub runs."""
    services = current_services()
    hub = services.hub
    if hub.draining:
        detail = "The hub is stopping."
        raise ServiceUnavailable(detail, "Send the request to another worker or machine.")
    if hub.failed:
        detail = "The hub has failed."
        raise ServiceUnavailable(detail, "Read the hub's log for the cause; the worker restarts.")
    services.log_probe.usage()
    return Response("ready\n", mimetype="text/plain")


@bp.get("/metrics")
def metrics() -> Response:
    """Return the numbers for Prometheus."""
    own_paths.require_read()
    hub = current_services().hub
    hub.flush_metrics()
    usage = own_paths.log_usage()
    log = log_metrics(*(usage.bounds if usage else (None, None)))
    text = hub.metrics.text([*log, build_metric(__version__)])
    return own_paths.no_store(Response(text, content_type=CONTENT_TYPE))
