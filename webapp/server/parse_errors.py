"""Problem documents (RFC 9457) for what gunicorn's parser refuses before the app is called."""

from __future__ import annotations

import json
import logging
from http import HTTPStatus

from gunicorn.http import errors as http_errors

from ..errors import problem
from ..limited_lines import LimitedLines
from .request_bounds import OTHER_HEADERS_BYTES

logger = logging.getLogger(__name__)

PROBLEMS = {
    http_errors.LimitRequestLine: (
        HTTPStatus.REQUEST_URI_TOO_LONG,
        "The request line is over 8,190 bytes.",
        "Ask for fewer topics, or use a URI template or *.",
    ),
    http_errors.UnsupportedTransferCoding: (
        HTTPStatus.NOT_IMPLEMENTED,
        "The Transfer-Encoding is not supported.",
        "Send Transfer-Encoding: chunked, or a Content-Length.",
    ),
    http_errors.ExpectationFailed: (
        HTTPStatus.EXPECTATION_FAILED,
        "The header Expect is not 100-continue.",
        "Leave the header Expect out.",
    ),
}
"""Status, detail and remedy for each class of gunicorn's errors that has its own."""

_NOT_HTTP = (
    HTTPStatus.BAD_REQUEST,
    "The request line, the headers or the framing of the body are not valid HTTP.",
    "Send no control characters and no contradictory headers (RFC 9112).",
)

_log_lines = LimitedLines()


def log_parse_error(error: http_errors.ParseException) -> None:
    """Log what a client sent, as often as `LimitedLines` allows."""
    if line := _log_lines.admit(type(error).__name__):
        logger.info("A client sent no valid HTTP request: %s", line)


def error_response(error: http_errors.ParseException, max_header_bytes: int) -> bytes:
    """Return the whole response to what is not a valid request; it closes the connection."""
    if isinstance(error, http_errors.LimitRequestHeaders):
        status, detail, remedy = _headers_too_long(max_header_bytes)
    else:
        status, detail, remedy = PROBLEMS.get(type(error), _NOT_HTTP)
    text = json.dumps(problem(status, status.phrase, detail, remedy), ensure_ascii=False) + "\n"
    body = text.encode()
    header = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nConnection: close\r\n"
        f"Content-Type: application/problem+json\r\nX-Content-Type-Options: nosniff\r\n"
        f"Cache-Control: no-store\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return header.encode() + body


def _headers_too_long(max_header_bytes: int) -> tuple[HTTPStatus, str, str]:
    detail = (
        f"A header is over TIDINGS_MAX_HEADER_BYTES, {max_header_bytes} bytes; or all headers"
        f" are over {max_header_bytes + OTHER_HEADERS_BYTES} bytes, or more than 100."
    )
    remedy = "Send fewer cookies and shorter headers, or raise the setting."
    return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, detail, remedy
