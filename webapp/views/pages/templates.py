"""The hub's templates, in an environment of their own: an app's have the same names."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, FileSystemLoader, select_autoescape

from ...config.folders import TEMPLATES


@cache
def _environment() -> Environment:
    return Environment(loader=FileSystemLoader(TEMPLATES), autoescape=select_autoescape())


def render(name: str, **values: Any) -> str:
    """Return the text of a template."""
    return _environment().get_template(name).render(**values)
