"""The paths about the hub itself: who may read them, and how they answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import request

from ..core.topics import TOPICS_PATH
from ..errors import ServiceUnavailable
from .bodies import forms
from .credentials import tokens_of
from .services import current_services

if TYPE_CHECKING:
    from flask import Response

    from ..brokers.base import Usage

_CONSOLE_FOLDER = "/console/"
_CONSOLE_STATUSES = {401, 403, 404}
STATE_PATH = "/console/state"
CONNECTIONS_PATH = "/console/connections"
HUB_PATH = "/console/hub"
BUSY_TOPICS_PATH = "/console/topics"
_CONSOLE = (STATE_PATH, CONNECTIONS_PATH, HUB_PATH, BUSY_TOPICS_PATH)
PROTECTED = ("/metrics", *_CONSOLE, TOPICS_PATH)
"""The paths that need a token where the hub has a key; each is a topic that it must grant."""


def require_read(*paths: str) -> tuple[str, ...]:
    """Refuse a client that may not read the path of the request, or one of some others. Return its
    tokens.

    :raises Unauthorized: the token is missing or not valid.
    :raises Forbidden: it does not grant a path.
    :raises ServiceUnavailable: its key is not available at the moment.
    """
    services = current_services()
    tokens = tokens_of(request, forms.query(request)).texts
    for path in (request.path.removeprefix(services.url_prefix), *paths):
        services.authorizer.require_read(tokens, path)
    return tokens


def is_console_refusal(status: int) -> bool:
    """Return whether the request is one of the console's own that its token does not grant, or that
    the hub has no answer to. A console repeats these, so they would hide why clients are refused.
    """
    path = request.path.removeprefix(current_services().url_prefix)
    return status in _CONSOLE_STATUSES and path.startswith(_CONSOLE_FOLDER)


def log_usage() -> Usage | None:
    """Return how much the event log keeps; None: it is not available."""
    try:
        return current_services().log_probe.usage()
    except ServiceUnavailable:
        return None


def no_store(response: Response) -> Response:
    """Let no cache keep a response."""
    response.headers["Cache-Control"] = "no-store"
    return response
