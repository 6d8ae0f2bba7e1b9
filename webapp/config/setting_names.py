"""Variables that container platforms set for other purposes, and mistakes in names of settings."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

from ..errors import Misconfigured
from . import parsers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PREFIX = "TIDINGS_"
_MIN_SIMILARITY = 0.7  # of a name that is suggested for an unknown one, from 0 to 1
_ADDRESS_NAMES = {"ADDR", "ADDRESS", "HOST", "LISTEN", "BIND_ADDRESS", "PORT"}
_OFTEN_MEANT = {
    **dict.fromkeys(["CONCURRENCY", "WEB_CONCURRENCY", "WORKERS"], "WEB_CONCURRENCY"),
    **dict.fromkeys(["JWT_SECRET", "KEY", "SECRET", "SECRET_KEY"], "TIDINGS_JWT_KEY"),
    **dict.fromkeys(["DATABASE_URL", "DB", "TRANSPORT_URL", "URI"], "TIDINGS_BROKER_URL"),
    "REDIS_URL": "REDIS_URL",
    **dict.fromkeys(["ALLOWED_ORIGINS", "CORS", "ORIGINS"], "TIDINGS_CORS_ORIGINS"),
    "HEARTBEAT_INTERVAL": "TIDINGS_HEARTBEAT",
    "RETENTION": "TIDINGS_HISTORY_AGE",
    "TRUST_PROXY": "TIDINGS_TRUSTED_PROXIES",
    "LOG_LEVEL": "GUNICORN_CMD_ARGS='--log-level debug'",
}
# Kubernetes and Docker describe a service `tidings` or `tidings-redis` to each container, so:
_INJECTED = re.compile(
    rf"{PREFIX}(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?|ENV_\w+)"
)
_INJECTED_WITH_VALUE = re.compile(rf"{PREFIX}(\w+_)?(PORT=(tcp|udp|sctp)://.*|NAME=/.+/.+)")


def is_injected(name: str, value: str) -> bool:
    """Return whether a container platform sets this variable for a service of such a name."""
    return bool(_INJECTED.fullmatch(name) or _INJECTED_WITH_VALUE.fullmatch(f"{name}={value}"))


def unknown(name: str, known: Iterable[str], environ: Mapping[str, str]) -> Misconfigured:
    """Return the refusal of a name that is not a setting; it proposes a similar one."""
    bare = name.removeprefix(PREFIX)
    similar = {it.removeprefix(PREFIX): it for it in known} | _OFTEN_MEANT
    if bare in _ADDRESS_NAMES:
        remedy = f"To choose the address of the hub, set {_proposed_bind(environ)}."
    elif near := difflib.get_close_matches(bare, similar, n=1, cutoff=_MIN_SIMILARITY):
        remedy = f"Did you mean {similar[near[0]]}?"
    else:
        remedy = "Leave it out."
    detail = f"{name} is not a setting of Tidings."
    return Misconfigured(detail, f"{remedy} All settings are in docs/reference/settings.md.")


def _proposed_bind(environ: Mapping[str, str]) -> str:
    """Return a setting that says what the unknown ones TIDINGS_HOST and TIDINGS_PORT meant."""
    host = environ.get(f"{PREFIX}HOST", "127.0.0.1")
    port = environ.get(f"{PREFIX}PORT", "8000")
    for address in (f"{host}:{port}", f"[{host}]:{port}"):
        try:
            parsers.bind(address)
        except ValueError:
            continue
        return f"{PREFIX}BIND={address}"
    return f"{PREFIX}BIND=127.0.0.1:8123"
