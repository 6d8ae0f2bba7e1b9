"""Types of options that several commands have."""

from __future__ import annotations

import click

from ..config import parsers


def duration(text: str) -> float:
    """Return seconds from seconds, or `15s`, `5m`, `2h`, `7d`; `never` is infinite."""
    try:
        return float("inf") if text == "never" else parsers.duration(text)
    except ValueError as error:
        message = f"It is {error}; or never."
        raise click.BadParameter(message) from None
