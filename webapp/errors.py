"""The tree of deliberate failures: each knows its HTTP status and how to mend it.

    TidingsError
    ├── Misconfigured     the hub does not start
    ├── Invalid       400 the request says something the hub cannot do
    ├── Unauthorized  401 no token, or not a valid one
    ├── Forbidden     403 the token does not grant what was asked
    ├── NotFound      404 it is not there, or not any more
    ├── TimedOut      408 the body stopped arriving
    ├── Conflict      409 the id is taken by other content
    ├── TooLarge      413 over a limit that the message names
    ├── Unreadable    415 a body of a kind the hub does not read
    ├── TooMany       429 more at once, or faster, than one client may
    └── Unavailable   503 the log is away, the hub is full or stopping

They are raised where the failure is known and become HTTP at one edge (`webapp.create_app`).
"""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping


class TidingsError(Exception):
    """A failure with a remedy.

    :param detail: what was wrong, without repeating what the client sent.
    :param remedy: what to do about it, in one imperative sentence.
    :param extra: further members of the problem document (RFC 9457, section 3.2); `reason`
        among them says what limit it was, where the class does not.
    """

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    reason: str = "internal"
    """By what it is counted, a word of few."""
    headers: Mapping[str, str] = MappingProxyType({})

    def __init__(self, detail: str, remedy: str, **extra: Any) -> None:
        super().__init__(f"{detail} {remedy}")
        self.detail = detail
        self.remedy = remedy
        self.extra = extra
        self.reason = extra.get("reason", self.reason)

    def problem(self) -> dict[str, Any]:
        """Return the problem document: `application/problem+json`, RFC 9457."""
        return problem(self.status, self.title, self.detail, self.remedy, **self.extra)


def problem(status: int, title: str, detail: str, remedy: str, **extra: Any) -> dict[str, Any]:
    """Return a problem document (RFC 9457) with the remedy as a member of its own."""
    return {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "remedy": remedy,
        **extra,
    }


class Misconfigured(TidingsError):
    """The settings contradict each other or the place they run in; the hub does not start."""

    title = "Misconfigured"


class BadRequest(TidingsError):
    """The request says something that the hub cannot do."""

    status = 400
    title = "Bad request"
    reason = "invalid"


class Unauthorized(TidingsError):
    """A token is needed and there is none, or it is not valid."""

    status = 401
    title = "Unauthorized"
    reason = "unauthorized"
    headers = MappingProxyType({"WWW-Authenticate": 'Bearer realm="tidings"'})


class Forbidden(TidingsError):
    """The token is valid and does not grant what was asked."""

    status = 403
    title = "Forbidden"
    reason = "forbidden"


class NotFound(TidingsError):
    """What the request is about is not there."""

    status = 404
    title = "Not found"
    reason = "not_found"


class RequestTimeout(TidingsError):
    """The request's body stopped arriving."""

    status = 408
    title = "Request timeout"
    reason = "body_timeout"


class Conflict(TidingsError):
    """The publisher's own id is taken by an event with other content."""

    status = 409
    title = "Conflict"
    reason = "conflict"


class ContentTooLarge(TidingsError):
    """Something is over a limit; the detail names the limit and its setting."""

    status = 413
    title = "Content too large"
    reason = "too_large"


class UnsupportedMediaType(TidingsError):
    """The body is of a kind that the hub does not read."""

    status = 415
    title = "Unsupported media type"
    reason = "unreadable"


class TooManyRequests(TidingsError):
    """One client has more at once, or is faster, than it may.

    :param wait: seconds after which it may try again, said in Retry-After (RFC 6585, section 4).
    """

    status = 429
    title = "Too many requests"

    def __init__(self, detail: str, remedy: str, *, wait: float, **extra: Any) -> None:
        super().__init__(detail, remedy, **extra)
        self.headers = {"Retry-After": str(math.ceil(wait))}


class ServiceUnavailable(TidingsError):
    """The log cannot be reached, or the hub is full or stopping: try again later."""

    status = 503
    title = "Service unavailable"
    reason = "unavailable"
    headers = MappingProxyType({"Retry-After": "5"})
