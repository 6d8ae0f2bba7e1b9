"""Before anybody is served: settings, limits, and the server, which must be one that can."""

from __future__ import annotations

import os
import resource
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from ..errors import Misconfigured
from .settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

T = TypeVar("T")

_MANY_FILES = 1 << 20
_CONFIGURATION = Path(__file__).parent.parent.parent / "gunicorn.conf.py"
_GUNICORN_STOPS = 3  # a worker's exit status (Arbiter.WORKER_BOOT_ERROR): it starts no other one


class Server:
    """The server that runs this process."""

    is_ours = False
    """Whether it is gunicorn with the worker class of the hub, which does the checks itself."""


def check_server() -> None:
    """Refuse servers that cannot hold streams.

    :raises Misconfigured: with the command that can.
    """
    if Server.is_ours:
        return
    if "uwsgi" in sys.modules:  # there is no such module elsewhere
        name = "uWSGI"
    elif "waitress" in sys.modules:
        name = "Waitress"
    elif "gunicorn.arbiter" in sys.modules and "SERVER_SOFTWARE" in os.environ:
        detail = "gunicorn must load the app in a worker of the hub's own class."
        remedy = f"Start it with -c {_CONFIGURATION}, without -k and without --preload."
        raise Misconfigured(detail, remedy)
    else:
        return
    detail = f"{name} cannot serve streams: a few of them would hold up everybody else."
    raise Misconfigured(detail, f"Start it with gunicorn -c {_CONFIGURATION} wsgi:app.")


def or_end(action: Callable[..., T], *values: Any) -> T:
    """Return what a function does, or end the process with the remedy."""
    try:
        return action(*values)
    except Misconfigured as error:
        if "uwsgi" in sys.modules:  # it would serve without the app
            end_at_once(error)
        print(_sentence(error), file=sys.stderr, flush=True)  # noqa: T201 - there is no log yet
        sys.exit(_GUNICORN_STOPS if "gunicorn.arbiter" in sys.modules else 1)


def end_at_once(error: Misconfigured) -> NoReturn:
    """End the process with the remedy, from whichever thread."""
    os.write(2, f"{_sentence(error)}\n".encode(errors="replace"))
    uwsgi: Any = sys.modules.get("uwsgi")
    if uwsgi and (master := uwsgi.masterpid()):
        os.kill(master, signal.SIGKILL)  # it would start other workers without an end
    os._exit(1)


def _sentence(error: Misconfigured) -> str:
    return f"Tidings does not start: {error}"


def load_settings(environ: Mapping[str, str]) -> Settings:
    """Read the settings for gunicorn's configuration, or end the process with the remedy."""
    return or_end(Settings.from_env, environ)


def raise_file_limit() -> int:
    """Raise the limit of open files as far as the system lets us; return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MANY_FILES if hard == resource.RLIM_INFINITY else hard
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (ValueError, OSError):  # macOS says infinite and allows less
        return soft
    return wanted


def file_limit() -> int:
    """Return how many files this process may have open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def startup_message(settings: Settings, addresses: Iterable[Any], *, tls: bool) -> str:
    """Return the line that says where to look and what is open."""
    positions = " and ".join(
        [_position(address, "https" if tls else "http") for address in addresses]
    )
    if not settings.auth_enabled:
        who = "everybody who can reach it" if settings.open else "everybody on this machine"
        access = f"{who} may read and publish"
    else:
        readers = "everybody" if settings.anonymous else "who has a token"
        access = f"{readers} may read public events; publishing needs a token"
    demo = "; the demo counts on the topic events" if settings.demo else ""
    return f"Tidings is at {positions} ({settings.broker_label}): {access}{demo}"


def _position(address: Any, scheme: str) -> str:
    if not isinstance(address, tuple):
        return f"unix:{os.fsdecode(address)}"
    host, port, *_ = address
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
