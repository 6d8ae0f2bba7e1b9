"""The message at the start: where the hub is and who may use it, or why it does not start."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from ..errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .settings import Settings

T = TypeVar("T")

_WORKER_BOOT_ERROR = 3  # gunicorn's: a worker with this exit status is not replaced


def or_end(action: Callable[..., T], *values: Any) -> T:
    """Return what a function returns. If it raises `Misconfigured`, end the process and say why."""
    try:
        return action(*values)
    except Misconfigured as error:
        if "uwsgi" in sys.modules:  # it would serve without the app
            end_at_once(error)
        print(_refusal(error), file=sys.stderr, flush=True)  # noqa: T201 - no logger is set up yet
        sys.exit(_WORKER_BOOT_ERROR if "gunicorn.arbiter" in sys.modules else 1)


def end_at_once(error: Misconfigured) -> NoReturn:
    """End the process and say why; any thread may call it."""
    os.write(2, f"{_refusal(error)}\n".encode(errors="replace"))
    uwsgi: Any = sys.modules.get("uwsgi")
    if uwsgi and (master := uwsgi.masterpid()):
        os.kill(master, signal.SIGKILL)  # it would replace its workers without end
    os._exit(1)


def _refusal(error: Misconfigured) -> str:
    return f"Tidings does not start: {error}"


def startup_message(settings: Settings, addresses: Iterable[Any], *, tls: bool) -> str:
    """Return the log line that says where the hub is, and who may read and publish."""
    scheme = "https" if tls else "http"
    urls = " and ".join([_url(address, scheme) for address in addresses])
    if settings.embedded and not settings.auth_enabled:
        who = "everybody" if settings.anonymous else "users whom the app permits"
        access = f"{who} may read public events; the app and users whom it permits may publish"
    elif not settings.auth_enabled:
        who = "everybody who can reach it" if settings.open else "everybody on this machine"
        access = f"{who} may read and publish"
    else:
        who = "everybody" if settings.anonymous else "those with a token"
        access = f"{who} may read public events; publishing needs a token"
    demo = "; the demo publishes numbers to the topic events" if settings.demo else ""
    return f"Tidings is at {urls} ({settings.broker_label}): {access}{demo}"


def _url(address: Any, scheme: str) -> str:
    if not isinstance(address, tuple):
        return f"unix:{os.fsdecode(address)}"
    host, port, *_ = address
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
