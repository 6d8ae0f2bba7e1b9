"""Tidings: a Server-Sent Events hub.

One ordered event log. Publishing appends to it. Subscribing reads it from a position, filtered by
topic, and does not stop at its end. An event's id names its position.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .core.version import __version__

if TYPE_CHECKING:
    from .app import create_app
    from .embedding.extension import Tidings

__all__ = ["Tidings", "__version__", "create_app"]

_MODULES = {"Tidings": ".embedding.extension", "create_app": ".app"}


def __getattr__(name: str) -> object:
    """Import the app, or what adds a hub to another one, when it is asked for.

    gunicorn's master imports this package for its worker class. What the app imports (ssl) must
    not be imported before gevent has patched the worker.
    """
    if name in _MODULES:
        return getattr(import_module(_MODULES[name], __name__), name)
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
