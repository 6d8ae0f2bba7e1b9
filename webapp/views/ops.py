"""What platforms and operators ask: does the hub live, can it reach its log, what does it do."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from flask import Blueprint, Response, jsonify, request

from webapp.errors import Unavailable
from webapp.logstate import LogState
from webapp.metrics import CONTENT_TYPE, about_the_build, about_the_log
from webapp.views import forms
from webapp.views.tokens import carried
from webapp.voice import VERSION

if TYPE_CHECKING:
    from webapp.auth import Authority
    from webapp.hub import Hub

GATED = ("/metrics", "/console/state")
"""What a token must cover where the hub has a key; each is a topic by its path."""


def make_blueprint(hub: Hub, authority: Authority) -> Blueprint:
    """Return the blueprint of this hub's health and of its numbers, which are the operators'."""
    bp = Blueprint("ops", __name__)
    log_state = LogState(hub.broker)

    def admit() -> None:
        authority.visitor(carried(forms.query()), request.path)

    @bp.get("/healthz")
    def healthz() -> Response:
        return Response("ok\n", mimetype="text/plain")

    @bp.get("/readyz")
    def readyz() -> Response:
        if hub.draining:
            detail = "The hub is stopping."
            raise Unavailable(detail, "Send requests to another one.")
        if hub.failed:
            detail = "The hub is broken."
            raise Unavailable(detail, "Its log says why; its process will start anew.")
        hub.broker.bounds()
        return Response("ready\n", mimetype="text/plain")

    @bp.get("/metrics")
    def metrics() -> Response:
        admit()
        hub.measure()
        bounds = log_state.bounds()
        log = about_the_log(*(bounds or (None, None)))
        text = hub.metrics.text([*log, about_the_build(VERSION)])
        return _fresh(Response(text, content_type=CONTENT_TYPE))

    @bp.get("/console/state")
    def state() -> Response:
        admit()
        hub.measure()
        bounds, settings = log_state.bounds(), hub.settings
        return _fresh(
            jsonify(
                version=VERSION,
                now=time.time(),
                **hub.metrics.totals(),
                log={
                    "name": settings.log_name,
                    "up": bounds is not None,
                    "floor": bounds and str(bounds.floor),
                    "head": bounds and str(bounds.head),
                },
                history={
                    "events": settings.history_events,
                    "age": settings.history_age,
                    "bytes": settings.history_bytes,
                },
            )
        )

    return bp


def _fresh(answer: Response) -> Response:
    answer.headers["Cache-Control"] = "no-store"
    return answer
