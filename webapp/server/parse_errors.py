"""What gunicorn's parser refuses, answered like every other refusal (RFC 9457)."""

from __future__ import annotations

import json
from http import HTTPStatus

from gunicorn.http import errors as http_errors

from ..errors import problem
from .request_bounds import BESIDE

_REFUSALS = {
    http_errors.LimitRequestLine: (
        HTTPStatus.REQUEST_URI_TOO_LONG,
        "The request line is over 8,190 bytes.",
        "Ask for fewer topics, or use a URI template or *.",
    ),
    http_errors.UnsupportedTransferCoding: (
        HTTPStatus.NOT_IMPLEMENTED,
        "The Transfer-Encoding is not one that is read here.",
        "Send Transfer-Encoding: chunked, or a Content-Length.",
    ),
    http_errors.ExpectationFailed: (
        HTTPStatus.EXPECTATION_FAILED,
        "Only 100-continue can be expected.",
        "Leave the header Expect out.",
    ),
}
_NOT_HTTP = (
    HTTPStatus.BAD_REQUEST,
    "The request's line, headers or framing are not what HTTP allows.",
    "Keep them free of control characters and contradictions (RFC 9112).",
)


def error_response(error: http_errors.ParseException, max_header_bytes: int) -> bytes:
    """Return the whole answer to what is no request to us; the connection is to be closed."""
    if isinstance(error, http_errors.LimitRequestHeaders):
        status, detail, remedy = _too_long(max_header_bytes)
    else:
        status, detail, remedy = _REFUSALS.get(type(error), _NOT_HTTP)
    body = json.dumps(problem(status, status.phrase, detail, remedy)).encode()
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nConnection: close\r\n"
        f"Content-Type: application/problem+json\r\nX-Content-Type-Options: nosniff\r\n"
        f"Cache-Control: no-store\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _too_long(max_header_bytes: int) -> tuple[HTTPStatus, str, str]:
    detail = (
        f"A header is over TIDINGS_MAX_HEADER_BYTES, {max_header_bytes} bytes, all together are"
        f" over {max_header_bytes + BESIDE}, or they are too many."
    )
    remedy = "Send fewer cookies and shorter headers, or raise the setting."
    return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, detail, remedy
