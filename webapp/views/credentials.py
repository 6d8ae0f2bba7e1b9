"""Find the tokens of a request: in its Authorization header, its query or its cookies."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .origins import check_cookie

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flask import Request

    from .bodies.forms import Fields

COOKIE = "mercureAuthorization"
_MAX_COOKIES = 8  # of the name, from several paths and domains; each may cost a signature
_OF_PROXIES = {"", "basic", "digest", "negotiate", "ntlm"}  # schemes that a browser answers itself


class Tokens(NamedTuple):
    """The tokens of a request, of which any valid one counts."""

    texts: tuple[str, ...] = ()
    in_cookies: bool = False


_NO_TOKENS = Tokens()


def tokens_of(request: Request, args: Fields, publish_origins: Iterable[str] = ()) -> Tokens:
    """Return a request's tokens: the header's, else the query's, else the cookies', as Mercure
    does. An empty cookie, which a logout leaves, is none.

    :param args: the parameters of the query.
    :param publish_origins: other origins than the hub's whose pages may publish with a cookie.
    :raises Forbidden: a page of an origin that is not allowed would publish with a cookie.
    """
    header = request.environ.get("HTTP_AUTHORIZATION")
    if header is not None and (token := _bearer_token(header)) is not None:
        return Tokens((token,))
    if "authorization" in args and args["authorization"][0]:
        return Tokens((args["authorization"][0],))
    if "HTTP_COOKIE" not in request.environ:
        return _NO_TOKENS
    cookies = tuple(filter(None, request.cookies.getlist(COOKIE)))[:_MAX_COOKIES]
    if cookies and request.method not in {"GET", "HEAD"}:
        check_cookie(request, publish_origins)
    return Tokens(cookies, in_cookies=bool(cookies))


def _bearer_token(header: str) -> str | None:
    """Return the token in an Authorization header; None: the header is for a proxy."""
    scheme, _, credentials = header.strip().partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    return None if scheme.lower() in _OF_PROXIES else header  # which is not a token, and refused
