"""The folder in which the workers of a machine share their metrics and other numbers."""

from __future__ import annotations

import os

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable in which prometheus-client looks for the folder."""


def find_folder() -> str | None:
    """Return the folder; None: each process has its own metrics."""
    return os.environ.get(VARIABLE) or None


def subscribers_file(pid: int) -> str:
    """Return the name of the file in which a worker counts its subscribers."""
    return f"subscribers-{pid}"
