"""The live page: `GET /`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint

from .pages import page

if TYPE_CHECKING:
    from flask import Response

bp = Blueprint("live_page", __name__)


@bp.get("/")
def live() -> Response:
    """Return the live page, which shows events as they are published."""
    return page("index.html")
