"""Logs the origins whose pages subscribe and cannot read the answer: only the browser says so."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from .origins import is_own

if TYPE_CHECKING:
    from flask import Request

    from ..config.settings import Settings

logger = logging.getLogger(__name__)

_MAX_ORIGINS = 100  # that a process logs, each once
_logged = set[str]()


def log_unreadable(request: Request, settings: Settings) -> None:
    """Log the origin of a page once if the browser hides the events from it."""
    origin = request.environ.get("HTTP_ORIGIN")
    if origin is None or origin in _logged or len(_logged) >= _MAX_ORIGINS:
        return
    if not {origin, "*"} & {*settings.cors_origins} and not is_own(origin, request, settings):
        _logged.add(origin)
        message = (
            "Pages of the origin %.100a cannot read events: it is not in TIDINGS_CORS_ORIGINS."
        )
        logger.warning(message, origin)
