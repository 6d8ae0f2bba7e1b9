"""Find the token of a request: in its Authorization header, its query or its cookies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .origins import check_cookie

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from flask import Request

COOKIE = "mercureAuthorization"


def token_from_request(
    request: Request, args: Mapping[str, str], publish_origins: Iterable[str] = ()
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
    if token := args.get("authorization"):
        return token
    if "HTTP_COOKIE" not in request.environ:
        return None
    token = request.cookies.get(COOKIE)
    if token and request.method not in {"GET", "HEAD"}:
        check_cookie(request, publish_origins)
    return token
