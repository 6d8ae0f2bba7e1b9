"""The tree of deliberate failures: each knows its HTTP status and how to mend it.

    TidingsError
    ├── Misconfigured     the hub does not start
    ├── Invalid       400 the request says something the hub cannot do
    ├── Unauthorized  401 no token, or not a valid one
    ├── Forbidden     403 the token does not grant what was asked
    ├── TimedOut      408 the body stopped arriving
    ├── Conflict      409 the id is taken by other content
    ├── TooLarge      413 over a limit that the message names
    ├── Unreadable    415 a body of a kind the hub does not read
    └── Unavailable   503 the log is away, the hub is full or stopping

They are raised where the failure is known and become HTTP at one edge (`webapp.create_app`).
"""

from __future__ import annotations

from typing import Any, ClassVar


class TidingsError(Exception):
    """A failure with a remedy.

    :param detail: what was wrong, without repeating what the client sent.
    :param remedy: what to do about it, in one imperative sentence.
    :param extra: further members of the problem document (RFC 9457, section 3.2).
    """

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    headers: ClassVar[dict[str, str]] = {}

    def __init__(self, detail: str, remedy: str, **extra: Any) -> None:
        super().__init__(f"{detail} {remedy}")
        self.detail = detail
        self.remedy = remedy
        self.extra = extra

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


class Invalid(TidingsError):
    """The request says something that the hub cannot do."""

    status = 400
    title = "Bad request"


class Unauthorized(TidingsError):
    """A token is needed and there is none, or it is not valid."""

    status = 401
    title = "Unauthorized"
    headers: ClassVar[dict[str, str]] = {"WWW-Authenticate": 'Bearer realm="tidings"'}


class Forbidden(TidingsError):
    """The token is valid and does not grant what was asked."""

    status = 403
    title = "Forbidden"


class TimedOut(TidingsError):
    """The request's body stopped arriving."""

    status = 408
    title = "Request timeout"


class Conflict(TidingsError):
    """The publisher's own id is taken by an event with other content."""

    status = 409
    title = "Conflict"


class TooLarge(TidingsError):
    """Something is over a limit; the detail names the limit and its setting."""

    status = 413
    title = "Content too large"


class Unreadable(TidingsError):
    """The body is of a kind that the hub does not read."""

    status = 415
    title = "Unsupported media type"


class Unavailable(TidingsError):
    """The log cannot be reached, or the hub is full or stopping: try again later."""

    status = 503
    title = "Service unavailable"
    headers: ClassVar[dict[str, str]] = {"Retry-After": "5"}
