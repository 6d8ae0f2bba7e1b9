"""Answer every error with a problem document: `application/problem+json`, RFC 9457."""

from __future__ import annotations

import json
import logging
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flask import Response, request
from werkzeug.exceptions import HTTPException
from werkzeug.sansio.utils import get_host

from ..core.topics import MERCURE_PATH
from ..errors import BadRequest, TidingsError, problem
from ..monitoring.metrics import OF_CONSOLE
from .own_paths import is_console_refusal
from .services import NO_PRESENCE, current, current_services

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flask import Blueprint, Flask

logger = logging.getLogger(__name__)

# Not Werkzeug's descriptions, which may repeat what the client sent.
_MESSAGES = {
    404: ("There is nothing at this path.", "See /openapi.json for the paths of this hub."),
    405: ("This path does not accept this method.", "Use one that the header Allow names."),
    413: ("The body is too large, or its form has too many parts.", "Send less in one request."),
}
_OTHER_MESSAGE = ("The hub cannot process this request.", "Correct it and send it again.")
_OWN_HOSTS = {"localhost", "127.0.0.1", "::1"}


def init_app(app: Flask) -> None:
    """Handle the hub's own errors, Werkzeug's, and bugs."""
    init_blueprint(app)
    app.register_error_handler(Exception, _on_bug)


def init_blueprint(app: Flask | Blueprint) -> None:
    """Handle the hub's own errors and Werkzeug's. All others are handled as an app handles them: it
    may have raised them.
    """
    app.register_error_handler(TidingsError, on_tidings_error)
    app.register_error_handler(HTTPException, _on_http_exception)
    app.register_error_handler(BrokenPipeError, _on_disconnect)


def reject_foreign_hosts() -> None:
    """Refuse requests for other hosts than this machine's loopback names: the page of another site
    could let its own name resolve to 127.0.0.1 and so be of the hub's origin (DNS rebinding).

    :raises BadRequest: the request names another host, or none.
    """
    asked, _ = current()
    environ = asked.environ
    header = environ.get("HTTP_HOST")
    own = _is_own_host(asked.host) if header is None else _is_own_host_header(header)
    # With a request line such as GET http://host/ that host counts (RFC 9112, section 3.2.2).
    if not own or not _is_own_target(environ.get("RAW_URI", "/")):
        detail = "This hub answers to localhost only."
        remedy = "Use localhost; to serve other names, set TIDINGS_JWT_KEY or TIDINGS_OPEN=1."
        raise BadRequest(detail, remedy)


@lru_cache
def _is_own_host_header(header: str) -> bool:
    return _is_own_host(get_host("http", header))  # as `request.host` does at each request


def _is_own_target(target: str) -> bool:
    if target[:1] in {"/", "*"}:
        return True
    return _is_own_host(target.partition("://")[2].partition("/")[0])


@lru_cache
def _is_own_host(host: str) -> bool:
    try:
        return urlsplit(f"//{host}").hostname in _OWN_HOSTS
    except ValueError:
        return False


def on_tidings_error(error: TidingsError) -> Response:
    """Answer an error of the hub."""
    services = current_services()
    is_console = is_console_refusal(error.status)
    services.hub.metrics.refused.add(1, OF_CONSOLE if is_console else error.reason)
    services.refusal_log.note(error, request, is_console=is_console)
    return _respond(error.problem(), error.headers)


def _on_http_exception(error: HTTPException) -> Response:
    status = error.code or 500
    message = _MESSAGES.get(status, _OTHER_MESSAGE)
    below_mercure = request.path.startswith(f"{MERCURE_PATH}/")
    if status == HTTPStatus.NOT_FOUND and below_mercure and current_services().presence is None:
        message = NO_PRESENCE
    allow = error.get_response().headers.get("Allow")
    return _respond(problem(status, error.name, *message), {"Allow": allow} if allow else {})


def _on_disconnect(_: BrokenPipeError) -> Response:
    """Answer a client that closed only its own side."""
    detail = "The client closed its side of the connection before the answer."
    remedy = "Keep the connection open until the answer has arrived."
    return _respond(problem(400, "Bad Request", detail, remedy), {})


def _on_bug(error: Exception) -> Response:
    logger.error("a bug of the hub", exc_info=error)
    current_services().hub.metrics.refused.add(1, TidingsError.reason)
    detail = "The hub could not answer this request because of a bug."
    remedy = "Report it, with the traceback in the hub's log."
    return _respond(problem(500, "Internal error", detail, remedy), {})


def _respond(document: dict[str, Any], headers: Mapping[str, str]) -> Response:
    text = json.dumps(document, ensure_ascii=False) + "\n"
    body = text.encode(errors="backslashreplace")  # half a surrogate pair becomes JSON's \uD800
    response = Response(
        body, document["status"], dict(headers), mimetype="application/problem+json"
    )
    response.headers["Cache-Control"] = "no-store"
    return response
