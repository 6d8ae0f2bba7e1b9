"""The numbers that the console shows: `GET /console/state`, which it asks for each second."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, jsonify, request

from ...core.version import __version__
from ...errors import BadRequest
from ...monitoring.series import series
from .. import own_paths
from ..bodies import forms
from ..services import current_services

if TYPE_CHECKING:
    from ...config.settings import Settings
    from ...hub.hub import Hub
    from ...monitoring.metrics import Numbers

_TIME = re.compile(r"[0-9]{1,12}(\.[0-9]{1,6})?")

bp = Blueprint("console_state", __name__)


@bp.get(own_paths.STATE_PATH)
def console_state() -> Response:
    """Return the numbers of all workers of this machine, and the state of the event log."""
    own_paths.require_read()
    since = _since(forms.first_values(forms.query(request), {"since"}, "parameter").get("since"))
    services, now = current_services(), time.time()
    settings = services.settings
    began, points = services.call(_sampled, since, now)
    numbers = services.hub.metrics.numbers()
    state = {
        "version": __version__,
        "now": now,
        "started": began,
        "key": settings.key_kinds,
        "open": settings.open and not settings.auth_enabled,
        **_totals(numbers),
        "workers": _workers(numbers),
        "log": _log(settings),
        "history": {
            "events": settings.history_events,
            "age": settings.history_age,
            "bytes": settings.history_bytes,
        },
        "limits": {"subscribers": settings.max_subscribers or 0},
        "series": points,
    }
    return own_paths.no_store(jsonify(state))


def _since(text: str | None) -> float:
    if text is None:
        return 0.0
    if not _TIME.fullmatch(text):
        detail = "The parameter since must be a time in Unix seconds."
        raise BadRequest(detail, "Send the time of the newest point that you have.")
    return float(text)


def _sampled(hub: Hub, since: float, now: float) -> tuple[float | None, dict[str, Any]]:
    """Return when the hub began, and the newest points. What this process counted is shared."""
    hub.flush_metrics()
    samples = hub.sampler.samples
    return samples.began(), series(samples.read(), since, now)


def _totals(numbers: Numbers) -> dict[str, Any]:
    return {
        "readers": round(numbers.total("readers")),
        "opened": round(numbers.total("streams_opened_total")),
        "ended": numbers.by_label("streams_ended_total"),
        "refused": numbers.by_label("refused_total"),
        "skipped": numbers.by_label("skipped_items_total"),
        "published": round(numbers.total("published_events_total")),
        "delivered": round(numbers.total("delivered_events_total")),
        "delivered_bytes": round(numbers.total("delivered_bytes_total")),
    }


def _workers(numbers: Numbers) -> list[dict[str, Any]]:
    """Return the workers in the order of their numbers."""
    values = numbers.values
    pids, readers, starts = (
        values[it] for it in ("worker_pid", "readers", "worker_start_timestamp_seconds")
    )
    return [
        {
            "pid": round(pids[worker]),
            "readers": round(readers[worker]),
            "cpu": values["worker_cpu_ratio"].get(worker),
            "memory": values["process_resident_bytes"].get(worker) or None,
            "started": starts.get(worker) or None,
            "version": numbers.versions.get(worker),
        }
        for worker in sorted(pids.keys() & readers.keys(), key=lambda it: int(it or 0))
        if pids[worker]  # 0: the worker has not flushed yet
    ]


def _log(settings: Settings) -> dict[str, Any]:
    usage = own_paths.log_usage()
    return {
        "name": settings.broker_label,
        "up": usage is not None,
        "floor": usage and str(usage.bounds.floor),
        "head": usage and str(usage.bounds.head),
        "events": usage and usage.events,
        "bytes": usage and usage.bytes,
        "refused": [it._asdict() for it in usage.refused] if usage else [],
    }
