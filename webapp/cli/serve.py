"""`tidings serve`: run the hub from any folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..config.folders import IS_INSTALLED, NAME, PACKAGE

if TYPE_CHECKING:
    from collections.abc import Mapping

_LOG_NAME = "tidings.db"
_BIND_HELP = "Address to listen on, such as 127.0.0.1:8123; repeatable. Default: TIDINGS_BIND."
_WORKERS_HELP = "Worker processes. Default: WEB_CONCURRENCY, else 1."
_BROKER_HELP = "Where the event log is. Default: TIDINGS_BROKER_URL, else REDIS_URL, else a file."
_DATA_HELP = "Folder of the event log's file. Default: instance, in the current folder."
_EPILOG = """\b
Examples:
  tidings serve
  tidings serve --bind 127.0.0.1:8123 --workers 2
  TIDINGS_JWT_KEY=… tidings serve --bind 0.0.0.0:8000 --data /var/lib/tidings
  tidings serve --broker redis://localhost:6379 -- --log-level debug
"""


@click.command(epilog=_EPILOG)
@click.option("--bind", "-b", metavar="ADDRESS", multiple=True, help=_BIND_HELP)
@click.option("--workers", "-w", type=click.IntRange(1), help=_WORKERS_HELP)
@click.option("--broker", metavar="URL", help=_BROKER_HELP)
@click.option("--data", metavar="FOLDER", type=click.Path(file_okay=False), help=_DATA_HELP)
@click.argument("gunicorn_options", metavar="[-- GUNICORN_OPTIONS]", nargs=-1)
def serve(
    bind: tuple[str, ...],
    workers: int | None,
    broker: str | None,
    data: str | None,
    gunicorn_options: tuple[str, ...],
) -> None:
    """Run the hub under gunicorn until it gets SIGTERM or Ctrl-C.

    All other settings come from the environment. Where others can reach the hub, it needs a key.

    Options after -- are for gunicorn.
    """
    if broker and data:
        message = "--data says where the file of the event log is, and --broker names another log."
        raise click.UsageError(message)
    environ = dict(os.environ)
    if not broker and not data and _is_elsewhere(environ):
        data = "instance"
    if bind:
        environ["TIDINGS_BIND"] = ",".join(bind)
    if data:
        broker = f"sqlite:///{Path(data).absolute() / _LOG_NAME}"
    if broker:
        environ["TIDINGS_BROKER_URL"] = broker
    environ |= {"PYTHONPATH": os.pathsep.join(_import_paths()), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-m", "gunicorn", "-c", f"python:{NAME}.server.conf"]
    if workers:
        command += ["--workers", str(workers)]
    # A new program: this one has imported ssl, which must not be before gevent patches a worker.
    arguments = [*command, *gunicorn_options, f"{NAME}.app:load()"]
    try:
        os.execve(sys.executable, arguments, environ)  # noqa: S606 - no shell is needed
    except OSError as error:
        message = f"{sys.executable} cannot be run: {error.strerror}."
        raise click.ClickException(message) from None


def _is_elsewhere(environ: Mapping[str, str]) -> bool:
    """Return whether the repository's own folder would have the event log, which is another one
    than the current folder, and no setting says so.
    """
    names = {"TIDINGS_BROKER_URL", "TIDINGS_BROKER_URL_FILE", "REDIS_URL"}
    return not (IS_INSTALLED or names & environ.keys() or Path.cwd() == PACKAGE.parent)


def _import_paths() -> list[str]:
    """Return where gunicorn looks for modules. It puts the current folder first, unless it is
    there, and so would run a flask.py in it: here that folder is the last one.
    """
    here = str(Path.cwd())
    paths = [path for path in sys.path if path not in {"", here}]
    return [*([] if IS_INSTALLED else [str(PACKAGE.parent)]), *paths, here]
