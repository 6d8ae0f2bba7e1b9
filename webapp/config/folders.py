"""Where the hub's own files are: in the repository, or in an installed package."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parent.parent
NAME = PACKAGE.name
"""The package's name: `webapp` in the repository, `tidings` where it is installed."""

IS_INSTALLED = (PACKAGE / "templates").is_dir()  # in the repository they lie beside the package
TEMPLATES = (PACKAGE if IS_INSTALLED else PACKAGE.parent) / "templates"


def root() -> Path:
    """Return the folder at which relative paths in settings begin: the repository, so that all
    servers agree; for an installed package the current folder.
    """
    return Path.cwd() if IS_INSTALLED else PACKAGE.parent
