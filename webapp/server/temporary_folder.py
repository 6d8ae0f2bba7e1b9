"""The folder for temporary files of gunicorn and of the hub."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import Misconfigured

if TYPE_CHECKING:
    from ..config.settings import Settings

MEMORY = Path("/dev/shm")  # noqa: S108 - files and folders of our own are made in it


def choose(settings: Settings) -> None:
    """Let Python's `tempfile` have a folder: in a container, often only that of the event log can
    be written.

    :raises Misconfigured: no folder can be written.
    """
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        log_file = settings.log_file
        for folder in (MEMORY, *([log_file.parent] if log_file else [])):
            if os.access(folder, os.W_OK | os.X_OK):
                tempfile.tempdir = str(folder)
                return
        detail = "There is no folder for temporary files that the hub may write to."
        remedy = "Mount one at /tmp, such as an emptyDir of Kubernetes, or set TMPDIR to another."
        raise Misconfigured(detail, remedy) from None
