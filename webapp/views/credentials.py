"""Find the token of a request: in its Authorization header, its query or its cookies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .origins import check_cookie

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flask import Request

    from .forms import Fields

COOKIE = "mercureAuthorization"


def token_from_request(
    request: Request, args: Fields, publish_origins: Iterable[str] = ()
) -> str | None:
    """Return a request's token: the header's, else the query's, else the cookie's, as Mercure does.

    :param args: the parameters of the query.
    :param publish_origins: other origins than the hub's whose pages may publish with a cookie.
    :raises Forbidden: a page of an origin that is not allowed would publish with a cookie.
    """
    if (header := request.environ.get("HTTP_AUTHORIZATION")) is not None:
        scheme, _, credentials = header.partition(" ")
        # Another scheme is refused like an invalid token, not ignored.
        return credentials.strip() if scheme.lower() == "bearer" else ""
    if "authorization" in args and args["authorization"][0]:
        return args["authorization"][0]
    if "HTTP_COOKIE" not in request.environ:
        return None
    token = request.cookies.get(COOKIE)
    if token and request.method not in {"GET", "HEAD"}:
        check_cookie(request, publish_origins)
    return token
