"""What the console shows of the hub itself: its settings, refusals, and warnings of its log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, jsonify

from ...config.shown_settings import shown_settings
from ...monitoring.server_warnings import server_warnings
from .. import own_paths
from ..services import current_services

if TYPE_CHECKING:
    from ...monitoring.recent_refusals import RefusedRequest

bp = Blueprint("console_hub", __name__)


@bp.get(own_paths.HUB_PATH)
def console_hub() -> Response:
    """Return the settings in force without secrets, the refusals by reason, and the warnings."""
    own_paths.require_read()
    services = current_services()
    settings = services.settings
    services.hub.flush_metrics()
    counts = services.hub.metrics.numbers().by_label("refused_total")
    recent = services.call(lambda hub: hub.sampler.refusals.read())
    # Where everybody may read this, others must not learn the addresses of clients. Warnings may
    # have some.
    shows_clients = settings.has_presence or settings.loopback_only
    refusals = [
        {"reason": reason, "count": count}
        for reason, count in sorted(counts.items(), key=lambda it: -it[1])
    ]
    newest = list(recent.values())[::-1]
    state = {
        "settings": shown_settings(settings),
        "refusals": refusals,
        "recent": [_refusal(it, shows_client=shows_clients) for it in newest],
        "warnings": [it._asdict() for it in server_warnings.read()] if shows_clients else None,
    }
    return own_paths.no_store(jsonify(state))


def _refusal(it: RefusedRequest, *, shows_client: bool) -> dict[str, Any]:
    is_of_grant = it.asked and shows_client
    return {
        **it._asdict(),
        "address": it.address if shows_client else None,
        "subject": (it.subject or None) if shows_client else None,
        "asked": it.asked if is_of_grant else None,
        "granted": it.granted if is_of_grant else None,
    }
