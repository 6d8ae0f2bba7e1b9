"""The page of the console: `GET /console`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, request

from ..credentials import COOKIE
from ..services import current_services
from .page import page

if TYPE_CHECKING:
    from flask import Response

bp = Blueprint("pages", __name__)


@bp.get("/console")
def console() -> Response:
    """Return the console. The page needs no token; the data that it fetches does."""
    services = current_services()
    settings = services.settings
    # A cookie may be a token. The page's script cannot see it.
    has_cookie = settings.has_login or any(request.cookies.getlist(COOKIE))
    return page(
        "console.html",
        locked=settings.auth_enabled and not has_cookie,
        visitors_may_subscribe=settings.anonymous,
        has_presence=settings.has_presence,
    )
