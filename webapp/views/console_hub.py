"""What the console shows of the hub itself: its settings, refusals, and warnings of its log."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify

from ..config.shown_settings import shown_settings
from ..server_warnings import server_warnings
from . import own_paths
from .services import current_services

bp = Blueprint("console_hub", __name__)


@bp.get(own_paths.HUB_PATH)
def console_hub() -> Response:
    """Return the settings in force without secrets, the refusals by reason, and the warnings."""
    own_paths.require_read()
    services = current_services()
    settings = services.settings
    services.hub.flush_metrics()
    counts = services.hub.metrics.numbers().by_label("refused_total")
    examples = services.call(lambda hub: hub.sampler.refusals.read())
    # Where everybody may read this, others must not learn the addresses of clients. Warnings may
    # have some.
    shows_clients = settings.has_presence or settings.loopback_only
    refusals = [
        {
            "reason": reason,
            "count": count,
            "example": _example(examples[reason], shows_clients=shows_clients)
            if reason in examples
            else None,
        }
        for reason, count in sorted(counts.items(), key=lambda it: -it[1])
    ]
    warnings = [it._asdict() for it in server_warnings.read()] if shows_clients else None
    state = {"settings": shown_settings(settings), "refusals": refusals, "warnings": warnings}
    return own_paths.no_store(jsonify(state))


def _example(it: Any, *, shows_clients: bool) -> dict[str, Any]:
    return {**it._asdict(), "address": it.address if shows_clients else None}
