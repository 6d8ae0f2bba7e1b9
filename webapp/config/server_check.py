"""Which server runs this process: some cannot serve streams."""

from __future__ import annotations

import os
import sys

from ..errors import Misconfigured
from .folders import IS_INSTALLED, NAME, PACKAGE

_CONFIGURATION = (
    f"python:{NAME}.server.conf" if IS_INSTALLED else str(PACKAGE.parent / "gunicorn.conf.py")
)
_COMMAND = "tidings serve" if IS_INSTALLED else f"gunicorn -c {_CONFIGURATION} wsgi:app"


class Server:
    """The server that runs this process."""

    is_stream_worker = False
    """Whether it is gunicorn with the hub's worker class, which checks its sockets itself."""


def is_gunicorn() -> bool:
    """Whether gunicorn runs this process."""
    return "gunicorn.arbiter" in sys.modules and "SERVER_SOFTWARE" in os.environ


def check_server() -> None:
    """Refuse servers that cannot serve streams.

    :raises Misconfigured: with the command of one that can.
    """
    if Server.is_stream_worker:
        return
    if "uwsgi" in sys.modules:  # the module exists only inside uWSGI
        name = "uWSGI"
    elif "waitress" in sys.modules:
        name = "Waitress"
    elif is_gunicorn():
        detail = "gunicorn must load the app in a worker of the hub's own class."
        remedy = f"Start it with -c {_CONFIGURATION}, without -k and without --preload."
        raise Misconfigured(detail, remedy)
    else:
        return
    detail = f"{name} cannot serve streams: a few of them would hold up everybody else."
    raise Misconfigured(detail, f"Start it with {_COMMAND}.")
