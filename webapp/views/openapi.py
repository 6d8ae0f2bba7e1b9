"""Serve the OpenAPI document of this hub, with the bounds and errors of the code.

`templates/openapi.json` describes the routes; this module adds what many of them share. Two things
OpenAPI 3.1 cannot express and the template says in words: that `match` and `topic[]` can replace
`topic`, and that an NDJSON body, described as a list, has one event a line.
"""

from __future__ import annotations

import json
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, request

from .. import errors
from ..core.events import (
    MAX_ID_CHARS,
    MAX_NAME_CHARS,
    MAX_TOPICS,
    OWN_ID,
    RESERVED_ID,
    RETRY_BOUNDS_MS,
)
from ..core.topics import DEFAULT_TOPIC, MERCURE_PATH, TOPICS_PATH
from ..core.version import __version__
from ..presence.connections import MAX_LISTED
from .bodies.batch_limits import MAX_EVENTS
from .bodies.drafts import MAX_DIGITS
from .console.connections import DEFAULT_LIMIT as DEFAULT_CONNECTIONS
from .credentials import COOKIE
from .cursors import CURSOR, MAX_CURSOR_BYTES
from .own_paths import PROTECTED
from .pages.templates import render
from .paging import DEFAULT_LIMIT, MAX_LIMIT
from .services import current_services
from .subscribe_query import MAX_LAST_EVENTS, MAX_PATTERNS

if TYPE_CHECKING:
    from ..config.settings import Settings

    Object = dict[str, Any]
    Errors = list[type[errors.TidingsError]]

_BOUNDS = {
    "cursor": f"^{CURSOR}$",
    "default": DEFAULT_TOPIC,
    "max_batch": MAX_EVENTS,
    "max_cursor": MAX_CURSOR_BYTES,
    "max_id": MAX_ID_CHARS,
    "max_last": MAX_LAST_EVENTS,
    "max_name": MAX_NAME_CHARS,
    "max_retry": 10**MAX_DIGITS - 1,
    "max_patterns": MAX_PATTERNS,
    "max_connections": MAX_LISTED,
    "default_connections": DEFAULT_CONNECTIONS,
    "max_listed": MAX_LIMIT,
    "default_listed": DEFAULT_LIMIT,
    "max_topics": MAX_TOPICS,
    "own_id": OWN_ID,
    "reserved_id": RESERVED_ID,
    "retry_bounds": RETRY_BOUNDS_MS,
    "version": __version__,
}
_ERRORS = sorted(
    set(errors.TidingsError.__subclasses__()) - {errors.Misconfigured},
    key=lambda kind: kind.status,
)
_PUBLISH_ERRORS = [kind for kind in _ERRORS if kind is not errors.NotFound]
_SUBSCRIBE_ERRORS = [
    k for k in _PUBLISH_ERRORS if k not in {errors.Conflict, errors.UnsupportedMediaType}
]
_PRESENCE_ERRORS = [k for k in _ERRORS if k not in {errors.Conflict, errors.TooManyRequests}]
_PROTECTED_ERRORS: Errors = [
    errors.BadRequest,
    errors.Unauthorized,
    errors.Forbidden,
    errors.ServiceUnavailable,
]
_EVENT_PATHS = {"/events", MERCURE_PATH}
# The server answers with these before it looks for a route.
_SERVER_ERRORS = [
    HTTPStatus.REQUEST_URI_TOO_LONG,
    HTTPStatus.EXPECTATION_FAILED,
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    HTTPStatus.NOT_IMPLEMENTED,
]
_SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
    "query": {"type": "apiKey", "in": "query", "name": "authorization"},
    "cookie": {"type": "apiKey", "in": "cookie", "name": COOKIE},
}
_SERVERS = '"servers": []'
_REQUIRED = {"required": True, "schema": {"type": "string"}}  # a response header

bp = Blueprint("openapi", __name__)


@bp.get("/openapi.json")
def openapi() -> Response:
    """Return the document."""
    services = current_services()
    base = json.dumps(f"{request.root_path}{services.url_prefix}" or "/")
    text = _text(services.settings).replace(_SERVERS, f'"servers": [{{"url": {base}}}]', 1)
    response = Response(text, mimetype="application/json")
    response.headers["Cache-Control"] = "no-cache"  # another release has another document
    response.add_etag()
    response.make_conditional(request)
    return response


@lru_cache
def _text(settings: Settings) -> str:
    return json.dumps(_document(settings))


def _document(settings: Settings) -> Object:
    text = render(
        "openapi.json",
        **_BOUNDS,
        keyed=settings.has_presence,
        max_event_bytes=settings.max_event_bytes,
        max_body_bytes=settings.max_body_bytes,
        max_ttl=int(settings.history_age),
        ttl_pattern=_ttl_pattern(settings.history_age),
    )
    document: Object = json.loads(text)
    document["components"]["responses"] = {
        **{kind.__name__: _error_response(kind) for kind in _ERRORS},
        **{status.name: _problem_response(status.phrase) for status in _SERVER_ERRORS},
    }
    for path, item in document["paths"].items():
        _complete(path, item, settings)
    if settings.auth_enabled:
        document["components"]["securitySchemes"] = _SECURITY
    return document


def _ttl_pattern(longest_s: float) -> str:
    """Return a pattern of durations that are not too long: their numbers have fewer digits than the
    longest. JSON Schema cannot compare them.
    """
    parts = []
    for unit, seconds in (("s?", 1), ("m", 60), ("h", 3600), ("d", 86400)):
        if (digits := len(str(int(longest_s / seconds))) - 1) > 0:
            parts.append(f"[1-9][0-9]{{0,{digits - 1}}}{unit}")
    return f"^(?:{'|'.join(parts)})?$"


def _complete(path: str, item: Object, settings: Settings) -> None:
    """Add errors, security and the methods HEAD and OPTIONS to the description of a path."""
    of_events = path in _EVENT_PATHS
    if "get" in item:
        _add_errors(item["get"], _SUBSCRIBE_ERRORS if of_events else _page_errors(path))
        item["head"] = _head(item["get"])
    for method in item.keys() & {"post", "delete"}:
        _add_errors(item[method], _PUBLISH_ERRORS if of_events else _page_errors(path))
    allow = {"description": "Methods.", "headers": {"Allow": _REQUIRED}}
    item["options"] = {"responses": {"200": allow}}
    _add_errors(item["options"], [errors.BadRequest])
    if not_found := item.get("get", {}).get("responses", {}).get("404"):
        item["options"]["responses"].setdefault("404", not_found)
    protected = of_events or path.startswith((MERCURE_PATH, *PROTECTED))
    if settings.auth_enabled and protected:
        _add_security(item, anonymous=settings.anonymous and of_events)


def _page_errors(path: str) -> Errors:
    if path == TOPICS_PATH:
        return [*_PROTECTED_ERRORS, errors.TooManyRequests]
    if path.startswith(MERCURE_PATH):
        return _PRESENCE_ERRORS
    if path.startswith(PROTECTED):
        return _PROTECTED_ERRORS
    return [errors.BadRequest, *([errors.ServiceUnavailable] if path == "/readyz" else [])]


def _add_errors(operation: Object, kinds: Errors) -> None:
    names = {str(kind.status): kind.__name__ for kind in kinds}
    names |= {str(status.value): status.name for status in _SERVER_ERRORS}
    refs = {status: {"$ref": f"#/components/responses/{it}"} for status, it in names.items()}
    operation["responses"].update(refs)


def _head(get: Object) -> Object:
    """Return the operation HEAD of a path: that of GET, without bodies."""
    responses = {
        status: found if "$ref" in found else {k: found[k] for k in found if k != "content"}
        for status, found in get["responses"].items()
    }
    return {**{k: get[k] for k in get if k != "operationId"}, "responses": responses}


def _add_security(item: Object, *, anonymous: bool) -> None:
    tokens: list[Object] = [{name: []} for name in _SECURITY]
    for method in item.keys() & {"get", "head", "post", "delete"}:
        reads = method in {"get", "head"}
        item[method]["security"] = [*tokens, {}] if anonymous and reads else tokens


def _error_response(kind: type[errors.TidingsError]) -> Object:
    headers: Object = dict.fromkeys(kind.headers, _REQUIRED)
    if kind is errors.Forbidden:  # only where a token grants too little
        headers["WWW-Authenticate"] = {"schema": _REQUIRED["schema"]}
    return {**_problem_response(kind.__doc__ or kind.title), "headers": headers}


def _problem_response(description: str) -> Object:
    schema = {"$ref": "#/components/schemas/Problem"}
    content = {"application/problem+json": {"schema": schema}}
    return {"description": description, "content": content}
