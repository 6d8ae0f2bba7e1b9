"""Exempts the hub's paths from an app's CSRF protection: they compare origins instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import current_app

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flask import Blueprint


def exempt(blueprints: Iterable[Blueprint]) -> None:
    """Exempt blueprints from Flask-WTF's `CSRFProtect`, if the current app has it: a publisher has
    no form of the app, and so no token of one.
    """
    if csrf := current_app.extensions.get("csrf"):
        for blueprint in blueprints:
            csrf.exempt(blueprint)
