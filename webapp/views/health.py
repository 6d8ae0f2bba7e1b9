"""What platforms and operators ask: does the hub live, can it reach its log, what does it do."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from flask import Blueprint, Response, jsonify, request

from ..core.version import __version__
from ..errors import ServiceUnavailable
from ..metrics import CONTENT_TYPE, about_the_build, about_the_log
from . import forms
from .credentials import token_from_request
from .log_probe import LogProbe

if TYPE_CHECKING:
    from ..auth.authorizer import Authorizer
    from ..brokers.base import Bounds
    from ..hub.hub import Hub

PROTECTED = ("/metrics", "/console/state")
"""What a token must cover where the hub has a key; each is a topic by its path."""


def make_blueprint(hub: Hub, authority: Authorizer) -> Blueprint:
    """Return the blueprint of this hub's health and of its numbers, which are the operators'."""
    bp = Blueprint("ops", __name__)
    views = _Views(hub, authority)
    bp.add_url_rule("/healthz", view_func=views.healthz)
    bp.add_url_rule("/readyz", view_func=views.readyz)
    bp.add_url_rule("/metrics", view_func=views.metrics)
    bp.add_url_rule("/console/state", view_func=views.state)
    return bp


class _Views:
    def __init__(self, hub: Hub, authority: Authorizer) -> None:
        self._hub = hub
        self._authority = authority
        self._log = LogProbe(hub.broker)

    def healthz(self) -> Response:
        """Say that this process answers."""
        return Response("ok\n", mimetype="text/plain")

    def readyz(self) -> Response:
        """Say whether a request would be served here: the log answers, and nothing is ending."""
        if self._hub.draining:
            detail = "The hub is stopping."
            raise ServiceUnavailable(detail, "Send requests to another one.")
        if self._hub.failed:
            detail = "The hub is broken."
            raise ServiceUnavailable(detail, "Its log says why; its process will start anew.")
        self._log.bounds()
        return Response("ready\n", mimetype="text/plain")

    def metrics(self) -> Response:
        """Return the numbers for Prometheus."""
        self._admit()
        self._hub.measure()
        log = about_the_log(*(self._bounds() or (None, None)))
        text = self._hub.metrics.text([*log, about_the_build(__version__)])
        return _fresh(Response(text, content_type=CONTENT_TYPE))

    def state(self) -> Response:
        """Return the numbers for the console."""
        self._admit()
        self._hub.measure()
        bounds, settings = self._bounds(), self._hub.settings
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
        totals = self._hub.metrics.totals()
        return _fresh(
            jsonify(version=__version__, now=time.time(), **totals, log=log, history=history)
        )

    def _admit(self) -> None:
        self._authority.require_read(
            token_from_request(request, forms.query(request)), request.path
        )

    def _bounds(self) -> Bounds | None:
        try:
            return self._log.bounds()
        except ServiceUnavailable:
            return None


def _fresh(answer: Response) -> Response:
    answer.headers["Cache-Control"] = "no-store"
    return answer
