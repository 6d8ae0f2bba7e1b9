"""The hub's own OpenAPI document: its bounds and refusals are those of the code.

`templates/openapi.json` says what the routes are; what many have in common is added here. What
OpenAPI 3.1 cannot say is said there in words: that `match` can stand for `topic`, and that an
NDJSON body, described as a list, has one event a line.
"""

from __future__ import annotations

import json
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, render_template, request

from .. import errors
from ..core.events import (
    CUSTOM_ID,
    MAX_ID_CHARS,
    MAX_NAME_CHARS,
    MAX_TOPICS,
    RESERVED_ID,
    RETRY_BOUNDS_MS,
)
from ..core.topics import DEFAULT_TOPIC, MERCURE_PATH
from ..core.version import __version__
from .credentials import COOKIE
from .drafts import MAX_BATCH, MAX_DIGITS
from .health import PROTECTED
from .services import current_services
from .subscribe_query import CURSOR, MAX_CURSOR, MAX_LAST, MAX_SELECTORS

if TYPE_CHECKING:
    from ..config.settings import Settings

    Object = dict[str, Any]
    Refusals = list[type[errors.TidingsError]]

_BOUNDS = {
    "cursor": f"^{CURSOR}$",
    "default": DEFAULT_TOPIC,
    "max_batch": MAX_BATCH,
    "max_cursor": MAX_CURSOR,
    "max_id": MAX_ID_CHARS,
    "max_last": MAX_LAST,
    "max_name": MAX_NAME_CHARS,
    "max_retry": 10**MAX_DIGITS - 1,
    "max_selectors": MAX_SELECTORS,
    "max_topics": MAX_TOPICS,
    "own_id": CUSTOM_ID,
    "reserved_id": RESERVED_ID,
    "retry_bounds": RETRY_BOUNDS_MS,
    "version": __version__,
}
_ALL = sorted(
    set(errors.TidingsError.__subclasses__()) - {errors.Misconfigured},
    key=lambda kind: kind.status,
)
_OF_STREAMS = [kind for kind in _ALL if kind is not errors.NotFound]
_OF_READERS = [k for k in _OF_STREAMS if k not in {errors.Conflict, errors.UnsupportedMediaType}]
_OF_PRESENCE = [k for k in _ALL if k not in {errors.Conflict, errors.TooManyRequests}]
_STREAMS = {"/events", MERCURE_PATH}
# The server's, before there is a route.
_ANYWHERE = [
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
_ALLOW = {"Allow": {"required": True, "schema": {"type": "string"}}}


bp = Blueprint("openapi", __name__)


@bp.get("/openapi.json")
def openapi() -> Response:
    """Return the document."""
    response = Response(_text(current_services().settings), mimetype="application/json")
    response.headers["Cache-Control"] = "no-cache"  # another release has another document
    response.add_etag()
    response.make_conditional(request)
    return response


@lru_cache
def _text(settings: Settings) -> str:
    return json.dumps(_document(settings))


def _document(settings: Settings) -> Object:
    text = render_template(
        "openapi.json",
        **_BOUNDS,
        keyed=settings.auth_enabled,
        max_event_bytes=settings.max_event_bytes,
        max_body_bytes=settings.max_body_bytes,
    )
    document: Object = json.loads(text)
    document["components"]["responses"] = {
        **{kind.__name__: _refusal(kind) for kind in _ALL},
        **{status.name: _problem(status.phrase) for status in _ANYWHERE},
    }
    for path, item in document["paths"].items():
        streams = path in _STREAMS
        if "get" in item:
            _refuse(item["get"], _OF_READERS if streams else _of_page(path))
            item["head"] = _bodiless(item["get"])
        for method in item.keys() & {"post", "delete"}:
            _refuse(item[method], _OF_STREAMS if streams else _of_page(path))
        item["options"] = {"responses": {"200": {"description": "Methods.", "headers": _ALLOW}}}
        _refuse(item["options"], _of_page(""))
        if absent := item.get("get", {}).get("responses", {}).get("404"):
            item["options"]["responses"].setdefault("404", absent)
        if settings.auth_enabled and (
            streams or path.startswith(MERCURE_PATH) or path in PROTECTED
        ):
            _secure(item, anonymous=settings.anonymous and streams)
    if settings.auth_enabled:
        document["components"]["securitySchemes"] = _SECURITY
    return document


def _of_page(path: str) -> Refusals:
    if path.startswith(MERCURE_PATH):
        return _OF_PRESENCE
    if path in PROTECTED:
        return [errors.BadRequest, errors.Unauthorized, errors.Forbidden, errors.ServiceUnavailable]
    return [errors.BadRequest, *([errors.ServiceUnavailable] if path == "/readyz" else [])]


def _refuse(operation: Object, kinds: Refusals) -> None:
    names = {str(kind.status): kind.__name__ for kind in kinds}
    names |= {str(status.value): status.name for status in _ANYWHERE}
    refs = {status: {"$ref": f"#/components/responses/{it}"} for status, it in names.items()}
    operation["responses"].update(refs)


def _bodiless(get: Object) -> Object:
    """Return the operation HEAD of a path: as GET, without the bodies."""
    answers = {
        status: answer if "$ref" in answer else {k: answer[k] for k in answer if k != "content"}
        for status, answer in get["responses"].items()
    }
    return {**{k: get[k] for k in get if k != "operationId"}, "responses": answers}


def _secure(item: Object, *, anonymous: bool) -> None:
    tokens: list[Object] = [{name: []} for name in _SECURITY]
    for method in item.keys() & {"get", "head", "post", "delete"}:
        reads = method in {"get", "head"}
        item[method]["security"] = [*tokens, {}] if anonymous and reads else tokens


def _refusal(kind: type[errors.TidingsError]) -> Object:
    headers = {name: {"required": True, "schema": {"type": "string"}} for name in kind.headers}
    return {**_problem(kind.__doc__ or kind.title), "headers": headers}


def _problem(about: str) -> Object:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": about, "content": {"application/problem+json": {"schema": schema}}}
