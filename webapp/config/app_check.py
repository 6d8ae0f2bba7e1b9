"""Checks that an app can have a hub in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import Misconfigured

if TYPE_CHECKING:
    from flask import Flask

BLUEPRINT = "tidings"
"""The name of the blueprint with all views of a hub."""


def check(app: Flask) -> None:
    """Refuse an app in which the hub would not be found.

    :raises Misconfigured: with what to change.
    """
    if BLUEPRINT in app.blueprints:
        detail = f"The app has a hub already, or a blueprint of its own named {BLUEPRINT}."
        raise Misconfigured(detail, "Call Tidings(app) or init_app(app) once, and share the hub.")
    if app.url_map.host_matching:
        detail = "The app matches hosts (host_matching), and the paths of a hub have no host."
        raise Misconfigured(detail, "Use subdomain_matching, or run the hub beside the app.")
