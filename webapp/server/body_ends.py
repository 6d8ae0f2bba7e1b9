"""Why the hub ends a request's body before the client has sent all of it."""

from __future__ import annotations

from ..errors import RequestTimeout, ServiceUnavailable

_SEND_THE_REST = "Send what follows the last published line through a new pipe."


def no_files_left() -> ServiceUnavailable:
    """Return the answer to a pipe whose file is needed."""
    detail = "The hub has no files left, and this pipe was silent for the longest time."
    return ServiceUnavailable(detail, _SEND_THE_REST, reason="connections")


def pipe_stopped() -> ServiceUnavailable:
    """Return the answer to a pipe that is open when the worker stops."""
    detail = "The hub stops before the end of this pipe."
    return ServiceUnavailable(detail, _SEND_THE_REST, wait=1, reason="drain")


def body_stopped() -> ServiceUnavailable:
    """Return the answer to a request of which only the header arrived before the worker stopped."""
    detail = "The hub stops, and the body had not arrived."
    return ServiceUnavailable(detail, "Send the request again.", wait=1, reason="drain")


def pipe_idle() -> RequestTimeout:
    """Return the answer to a pipe that was silent for too long."""
    detail = "The pipe sent nothing for TIDINGS_PIPE_IDLE."
    return RequestTimeout(detail, _SEND_THE_REST, reason="pipe_idle")


def body_timeout() -> RequestTimeout:
    """Return the answer to a body that stopped arriving."""
    detail = "The body stopped arriving."
    return RequestTimeout(detail, "Send it faster, or raise TIDINGS_BODY_TIMEOUT.")
