"""What the console shows of the hub itself: its settings, and why requests were refused."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify

from ..config.shown_settings import shown_settings
from . import own_paths
from .services import current_services

bp = Blueprint("console_hub", __name__)


@bp.get(own_paths.HUB_PATH)
def console_hub() -> Response:
    """Return the settings in force without secrets, and the refusals by reason."""
    own_paths.require_read()
    services = current_services()
    settings = services.settings
    services.hub.flush_metrics()
    counts = services.hub.metrics.numbers().by_label("refused_total")
    examples = services.call(lambda hub: hub.sampler.refusals.read())
    # Where everybody may read this, others must not learn the addresses of clients.
    with_address = settings.has_presence or settings.loopback_only
    refusals = [
        {
            "reason": reason,
            "count": count,
            "example": _example(examples[reason], with_address=with_address)
            if reason in examples
            else None,
        }
        for reason, count in sorted(counts.items(), key=lambda it: -it[1])
    ]
    return own_paths.no_store(jsonify(settings=shown_settings(settings), refusals=refusals))


def _example(it: Any, *, with_address: bool) -> dict[str, Any]:
    return {**it._asdict(), "address": it.address if with_address else None}
