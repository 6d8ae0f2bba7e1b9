"""Every refusal as `application/problem+json` (RFC 9457), whoever raised it."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from flask import Response
from werkzeug.exceptions import HTTPException

from webapp.errors import TidingsError, problem

if TYPE_CHECKING:
    from flask import Flask

log = logging.getLogger(__name__)

_REMEDIES = {
    404: "Events are published to and read from /events; / is the page.",
    405: "Look at the Allow header for what this path answers.",
}


def init_app(app: Flask) -> None:
    """Answer deliberate failures, Werkzeug's and bugs alike."""
    app.register_error_handler(TidingsError, refused)
    app.register_error_handler(HTTPException, _refused_by_werkzeug)
    app.register_error_handler(Exception, _failed)


def refused(error: TidingsError) -> Response:
    """Return a deliberate failure as an answer."""
    return _answer(error.problem(), error.headers)


def _refused_by_werkzeug(error: HTTPException) -> Response:
    response = error.get_response()
    status = error.code or 500
    remedy = _REMEDIES.get(status, "Mend the request and send it again.")
    if error.name == "Security Error" or "not trusted" in (error.description or ""):
        remedy = "Use localhost; to serve other names, set TIDINGS_JWT_KEY or TIDINGS_OPEN=1."
    answer = _answer(problem(status, error.name, error.description or error.name, remedy), {})
    for name in ("Allow", "Retry-After"):
        if name in response.headers:
            answer.headers[name] = response.headers[name]
    return answer


def _failed(error: Exception) -> Response:
    log.error("a bug of the hub", exc_info=error)
    detail = "The hub failed; this is a bug, and its log says more."
    return _answer(problem(500, "Internal error", detail, "Report it with that log."), {})


def _answer(document: dict[str, Any], headers: dict[str, str]) -> Response:
    body = json.dumps(document) + "\n"
    answer = Response(body, document["status"], headers, mimetype="application/problem+json")
    answer.headers["Cache-Control"] = "no-store"
    return answer
