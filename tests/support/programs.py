"""Programs that tests run, where they are installed."""

from __future__ import annotations

import os
import shutil

import pytest


def need(program: str) -> str:
    """Return the path of a program; without it, skip on a laptop and fail in CI."""
    if path := shutil.which(program):
        return path
    message = f"{program} is not installed"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)
