"""What a platform asks: does the process live, can it reach its log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, Response

from webapp.errors import Unavailable

if TYPE_CHECKING:
    from webapp.hub import Hub


def make_blueprint(hub: Hub) -> Blueprint:
    """Return the blueprint of this hub's health."""
    bp = Blueprint("ops", __name__)

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

    return bp
