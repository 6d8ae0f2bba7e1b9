"""The repository, and what a process of it needs."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def environment(env: dict[str, str]) -> dict[str, str]:
    """Return this process's environment without any setting, and `env`."""
    ours = ("TIDINGS_", "PORT", "WEB_CONCURRENCY", "REDIS_URL", "GUNICORN_CMD_ARGS")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    return {**kept, "PYTHONUNBUFFERED": "1", **env}


def installed(folder: Path) -> Path:
    """Return a folder that has the project, and an instance of its own."""
    for name in ("webapp", "templates", "wsgi.py", "gunicorn.conf.py", "Procfile"):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)
    return folder
