"""Tidings: a Server-Sent Events hub.

One ordered event log. Publishing appends to it. Subscribing reads it from a position, filtered by
topic, and does not stop at its end. An event's id names its position.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .core.version import __version__

if TYPE_CHECKING:
    from .app import create_app

__all__ = ["__version__", "create_app"]


def __getattr__(name: str) -> object:
    """Import the app when it is asked for.

    gunicorn's master imports this package for its worker class. What the app imports (ssl) must
    not be imported before gevent has patched the worker.
    """
    if name == "create_app":
        from .app import create_app

        return create_app
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
