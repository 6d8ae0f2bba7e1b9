"""Every refusal as `application/problem+json` (RFC 9457), whoever raised it."""

from __future__ import annotations

import json
import logging
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flask import Response, current_app, request
from werkzeug.exceptions import HTTPException
from werkzeug.sansio.utils import get_host

from ..errors import BadRequest, TidingsError, problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flask import Flask

logger = logging.getLogger(__name__)

# Of our own: Werkzeug's descriptions may repeat what the client sent.
_SAID = {
    404: ("There is nothing at this path.", "Events are at /events; / is the page."),
    405: ("This path does not answer this method.", "The header Allow says which it answers."),
    413: ("The body is too large, or a form of too many parts.", "Send less at once."),
}
_ANOTHER = ("The request is not one that is answered here.", "Mend it and send it again.")


def init_app(app: Flask) -> None:
    """Answer deliberate failures, Werkzeug's and bugs alike."""
    app.register_error_handler(TidingsError, refused)
    app.register_error_handler(HTTPException, _refused_by_werkzeug)
    app.register_error_handler(Exception, _failed)


def reject_foreign_hosts() -> None:
    """Answer a laptop's own names only: a page of another site may make one up for this hub and
    would then be of its origin (DNS rebinding).

    :raises Invalid: the request is for another host, or for none.
    """
    environ = request.environ
    named = environ.get("HTTP_HOST")
    local = _is_local(request.host) if named is None else _names_us(named)
    # In a request line such as GET http://host/ that host is the one that counts (RFC 9112, 3.2.2).
    if not local or not _is_local_target(environ.get("RAW_URI", "/")):
        detail = "This hub answers to localhost only."
        remedy = "Use localhost; to serve other names, set TIDINGS_JWT_KEY or TIDINGS_OPEN=1."
        raise BadRequest(detail, remedy)


@lru_cache
def _names_us(header: str) -> bool:
    return _is_local(get_host("http", header))  # as `request.host`, which reads it each time


def _is_local_target(target: str) -> bool:
    if target[:1] in {"/", "*"}:
        return True
    return _is_local(target.partition("://")[2].partition("/")[0])


@lru_cache
def _is_local(host: str) -> bool:
    try:
        return urlsplit(f"//{host}").hostname in {"localhost", "127.0.0.1", "::1"}
    except ValueError:
        return False


def refused(error: TidingsError) -> Response:
    """Return a deliberate failure as an answer, and count it."""
    current_app.extensions["tidings"].metrics.refused(error.reason)
    return _answer(error.problem(), error.headers)


def _refused_by_werkzeug(error: HTTPException) -> Response:
    status = error.code or 500
    said = _SAID.get(status, _ANOTHER)
    allow = error.get_response().headers.get("Allow")
    return _answer(problem(status, error.name, *said), {"Allow": allow} if allow else {})


def _failed(error: Exception) -> Response:
    logger.error("a bug of the hub", exc_info=error)
    current_app.extensions["tidings"].metrics.refused(TidingsError.reason)
    detail = "The hub failed; this is a bug, and its log says more."
    return _answer(problem(500, "Internal error", detail, "Report it with that log."), {})


def _answer(document: dict[str, Any], headers: Mapping[str, str]) -> Response:
    body = json.dumps(document) + "\n"
    answer = Response(body, document["status"], dict(headers), mimetype="application/problem+json")
    answer.headers["Cache-Control"] = "no-store"
    return answer
