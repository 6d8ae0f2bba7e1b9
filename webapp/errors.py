"""The exceptions of Tidings. Each has an HTTP status, what was wrong, and how to fix it.

They are raised where the failure is found. `views.error_handlers` turns them into responses.
"""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Self

if TYPE_CHECKING:
    from collections.abc import Mapping


class TidingsError(Exception):
    """A failure with a remedy.

    :param detail: what was wrong, without what the client sent.
    :param remedy: how to fix it, in one imperative sentence.
    :param extra: further members of the problem document (RFC 9457, section 3.2). A `reason` among
        them replaces that of the class.
    """

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    reason: str = "internal"
    """Value of the metric label `reason`; one of a small fixed set."""
    headers: Mapping[str, str] = MappingProxyType({})
    subject: str | None = None
    """Of the token, where it is known."""

    def __init__(self, detail: str, remedy: str, **extra: Any) -> None:
        super().__init__(f"{detail} {remedy}")
        self.detail = detail
        self.remedy = remedy
        self.extra = extra
        self.reason = extra.get("reason", self.reason)

    def about(self, subject: str | None) -> Self:
        """Note the subject of the token, for operators: the client is not sent it."""
        self.subject = subject
        return self

    def problem(self) -> dict[str, Any]:
        """Return the problem document (`application/problem+json`, RFC 9457)."""
        return problem(self.status, self.title, self.detail, self.remedy, **self.extra)


def problem(status: int, title: str, detail: str, remedy: str, **extra: Any) -> dict[str, Any]:
    """Return a problem document (RFC 9457), with the member `remedy` in addition."""
    return {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "remedy": remedy,
        **extra,
    }


class Misconfigured(TidingsError):
    """A setting is wrong, or contradicts another or the environment. The hub does not start."""

    title = "Misconfigured"


class BadRequest(TidingsError):
    """The request is not valid, or asks for something that the hub cannot do."""

    status = 400
    title = "Bad request"
    reason = "invalid"


class Unauthorized(TidingsError):
    """The request needs a token and has none, or one that is not valid.

    :param why: `expired`, `revoked` or `invalid`; None: the request has no token.
    """

    status = 401
    title = "Unauthorized"
    reason = "unauthorized"
    headers = {"WWW-Authenticate": "Bearer"}  # noqa: RUF012 - the type is that of the base class

    def __init__(self, detail: str, remedy: str, *, why: str | None = "invalid") -> None:
        super().__init__(detail, remedy)
        self.why = why
        self.headers = _challenge("invalid_token" if why else None, detail)


class Forbidden(TidingsError):
    """The hub does not permit what the request asks for."""

    status = 403
    title = "Forbidden"
    reason = "forbidden"


class InsufficientScope(Forbidden):
    """The token is valid but does not grant what the request asks for."""

    def __init__(self, detail: str, remedy: str, **extra: Any) -> None:
        super().__init__(detail, remedy, **extra)
        self.headers = _challenge("insufficient_scope", detail)


def _challenge(error: str | None, description: str) -> dict[str, str]:
    """Return the header that says why a token was refused (RFC 6750, section 3)."""
    challenge = 'Bearer realm="tidings"'
    if error:
        plain = description.replace('"', "'").replace("\\", "/")
        text = plain.encode("ascii", "replace").decode()
        challenge += f', error="{error}", error_description="{text}"'
    return {"WWW-Authenticate": challenge}


class NotFound(TidingsError):
    """There is nothing at the request's path, or not any more."""

    status = 404
    title = "Not found"
    reason = "not_found"


class RequestTimeout(TidingsError):
    """The request's body stopped arriving."""

    status = 408
    title = "Request timeout"
    reason = "body_timeout"


class Conflict(TidingsError):
    """An event with other content has the id already, or an event names an ended topic."""

    status = 409
    title = "Conflict"
    reason = "conflict"


class Gone(TidingsError):
    """Events after the request's cursor cannot be sent."""

    status = 410
    title = "Gone"
    reason = "unknown"


class ContentTooLarge(TidingsError):
    """Something is over a limit. The detail names the limit and its setting."""

    status = 413
    title = "Content too large"
    reason = "too_large"


class UnsupportedMediaType(TidingsError):
    """The body is of a kind that the hub does not read."""

    status = 415
    title = "Unsupported media type"
    reason = "unreadable"


class TooManyRequests(TidingsError):
    """One client has too much open at once, or is too fast.

    :param wait: seconds after which it may try again, for Retry-After (RFC 6585, section 4).
    """

    status = 429
    title = "Too many requests"
    headers = {"Retry-After": "5"}  # noqa: RUF012 - the type is that of the base class

    def __init__(self, detail: str, remedy: str, *, wait: float, **extra: Any) -> None:
        super().__init__(detail, remedy, **extra)
        self.headers = {"Retry-After": str(math.ceil(wait))}


class ServiceUnavailable(TidingsError):
    """The event log is unavailable, or the hub is full or stopping. Trying again later may help.

    :param wait: seconds after which the client may try again, for Retry-After.
    """

    status = 503
    title = "Service unavailable"
    reason = "unavailable"
    headers = {"Retry-After": "5"}  # noqa: RUF012 - the type is that of the base class

    def __init__(self, detail: str, remedy: str, *, wait: int = 5, **extra: Any) -> None:
        super().__init__(detail, remedy, **extra)
        self.headers = {"Retry-After": str(wait)}
