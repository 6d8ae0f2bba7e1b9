"""All that knows gunicorn: its worker, connections, parser and configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .worker import AccessLogger, StreamWorker

__all__ = ["AccessLogger", "StreamWorker"]


def __getattr__(name: str) -> object:
    """Import the worker when it is asked for: the configuration is imported without gevent."""
    if name not in __all__:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    from . import worker

    return getattr(worker, name)
