"""What gunicorn's configuration asks before there is a worker."""

from __future__ import annotations

import ipaddress
import resource
import sys
from typing import TYPE_CHECKING, Any

from webapp.errors import Misconfigured
from webapp.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

_MANY_FILES = 1 << 20


def load_settings(environ: Mapping[str, str]) -> Settings:
    """Read the settings for gunicorn's configuration, or end the process with the remedy."""
    try:
        return Settings.from_env(environ)
    except Misconfigured as error:
        sys.exit(f"Tidings does not start: {error}")


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


def check_place(settings: Settings, workers: int, addresses: list[Any]) -> None:
    """End the process where it would lie, or be open to strangers; `addresses` are gunicorn's."""
    try:
        reachable = settings.port is not None or not all(map(_is_loopback, addresses))
        settings.check_exposure(workers=workers, reachable=reachable)
    except Misconfigured as error:
        sys.exit(f"Tidings does not start: {error}")


def greeting(settings: Settings, address: str) -> str:
    """Return the line that says where to look and what is open."""
    if not settings.keyed:
        who = "everybody who can reach it" if settings.open else "everybody on this machine"
        access = f"{who} may read and publish"
    else:
        readers = "everybody" if settings.anonymous else "who has a token"
        access = f"{readers} may read public events; publishing needs a token"
    demo = "; the demo counts on the topic events" if settings.demo else ""
    return f"Tidings is at {address} ({settings.log_name}): {access}{demo}"


def _is_loopback(address: Any) -> bool:
    host = address[0] if isinstance(address, tuple) else ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
