"""Where a request has its token: in a header, in the query or in a cookie."""

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
    """Return a request's token from the first carrier that has one, in Mercure's order.

    :param args: the query's.
    :param publish_origins: whose pages may publish with a cookie, beside the hub's own.
    :raises Forbidden: a cookie would publish for a page of an origin that is not allowed.
    """
    if (header := request.environ.get("HTTP_AUTHORIZATION")) is not None:
        scheme, _, credentials = header.partition(" ")
        # What is no bearer's token is refused as one that is not valid, not ignored.
        return credentials.strip() if scheme.lower() == "bearer" else ""
    if token := args.get("authorization"):
        return token
    if "HTTP_COOKIE" not in request.environ:
        return None
    token = request.cookies.get(COOKIE)
    if token and request.method not in {"GET", "HEAD"}:
        check_cookie(request, publish_origins)
    return token
