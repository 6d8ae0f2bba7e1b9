"""A Flask app that has a hub in it, in a folder of its own."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from support.project import ROOT, environment
from support.python_module import start_module
from support.server import Server
from support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path


def project(folder: Path, app: str) -> Path:
    """Make a folder with an app, in which the package is called tidings, as it is installed."""
    (folder / "tidings").symlink_to(ROOT / "webapp")
    (folder / "templates").symlink_to(ROOT / "templates")
    (folder / "app.py").write_text(app)
    return folder


def serving(folder: Path, *options: str, **env: str) -> AbstractContextManager[Server]:
    """Serve the app of a folder by gunicorn."""
    return running(
        folder, folder / "log", ["gunicorn", "-b", "127.0.0.1:0", *options, "app:app"], env
    )


@contextmanager
def running(folder: Path, log: Path, command: list[str], env: dict[str, str]) -> Iterator[Server]:
    """Run a Python module that serves a hub, in a folder; the first word is its name."""
    with log.open("wb") as out:
        process = start_module(*command, cwd=folder, env=environment(env), stdout=out, stderr=out)
    try:
        server = Server(process, log)
        with server.http:
            yield server
    finally:
        process.terminate()
        process.wait(PATIENCE)
