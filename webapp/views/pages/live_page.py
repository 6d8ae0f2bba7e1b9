"""The live page: `GET /`.

It shows events as they are published, and the commands to subscribe and to publish. The settings of
the hub decide what these commands need; the page's script adds the hub's URL and the topic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint

from ..services import current_services
from .page import page

if TYPE_CHECKING:
    from flask import Response

    from ...config.settings import Settings

_ALL_TOPICS = ("--subscribe '*'", "--publish '*'")

bp = Blueprint("live_page", __name__)


@bp.get("/")
def live() -> Response:
    """Return the live page."""
    settings = current_services().settings
    return page(
        "index.html",
        token_options=_token_options(settings),
        token_settings=_token_settings(settings),
        subscribers_have_tokens=bool(settings.subscriber_keys or settings.jwks_url),
        # An EventSource sends no token, but it sends the cookies of an app's login.
        visitors_may_subscribe=settings.anonymous or settings.has_login,
        is_in_app=settings.embedded,
        publishes_in_app=settings.embedded and not settings.auth_enabled,
        has_login=settings.has_login,
        origins=_other_origins(settings.cors_origins),
    )


def _token_options(settings: Settings) -> list[str]:
    """Return the options of `tidings token` for a token of all topics; empty: no key of the hub
    signs such a token.
    """
    if not settings.jwt_key or settings.publisher_jwt_key or settings.subscriber_jwt_key:
        return []
    is_public = settings.jwt_key[0].startswith("-----BEGIN")
    return [*_ALL_TOPICS, *(["--key private.pem"] if is_public else [])]


def _token_settings(settings: Settings) -> list[str]:
    """Return the settings that `tidings token` must know, so that the hub accepts its token."""
    known = {
        "TIDINGS_JWT_KEY": settings.jwt_key,
        "TIDINGS_JWT_ALGORITHM": settings.jwt_algorithm,
        "TIDINGS_JWT_AUDIENCE": settings.jwt_audience,
        "TIDINGS_JWT_ISSUER": settings.jwt_issuer,
    }
    return [name for name, value in known.items() if value]


def _other_origins(allowed: tuple[str, ...]) -> str:
    """Return which pages of other origins may subscribe: `all`, `file`, or `listed`. The page does
    not name the origins, because everybody can read it.
    """
    if "*" in allowed:
        return "all"
    return "file" if "null" in allowed else "listed"
