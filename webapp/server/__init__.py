"""All that knows gunicorn: its worker, connections, parser and configuration."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .loggers import AccessLogger
    from .worker import StreamWorker

__all__ = ["AccessLogger", "StreamWorker"]

_MODULES = {"AccessLogger": ".loggers", "StreamWorker": ".worker"}


def __getattr__(name: str) -> object:
    """Import a class when it is asked for: the configuration is imported without gevent."""
    if name not in _MODULES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module(_MODULES[name], __name__), name)
