"""All that knows gunicorn: its worker, connections, parser and configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .checked_worker import AccessLogger
    from .worker import StreamWorker

__all__ = ["AccessLogger", "StreamWorker"]


def __getattr__(name: str) -> object:
    """Import the worker when it is asked for: the configuration is imported without gevent."""
    if name == "StreamWorker":
        from .worker import StreamWorker

        return StreamWorker
    if name == "AccessLogger":
        from .checked_worker import AccessLogger

        return AccessLogger
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
