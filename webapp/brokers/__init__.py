"""Which log a URL means, and the roster beside it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from gevent import monkey

from webapp.brokers.memory import MemoryBroker
from webapp.brokers.roster import MemoryRoster
from webapp.errors import Misconfigured

if TYPE_CHECKING:
    from webapp.brokers.base import Broker
    from webapp.brokers.redis import RedisBroker
    from webapp.brokers.roster import Roster
    from webapp.settings import Settings

_ROOT = Path(__file__).parent.parent.parent


def connect(settings: Settings) -> Broker:
    """Return the broker that `TIDINGS_BROKER_URL` names; nothing is opened yet.

    :raises Misconfigured: what waits for it would stop all others, too.
    """
    if not monkey.is_module_patched("socket"):
        detail = "gevent has not patched the sockets: one reader would hold up all others."
        remedy = "Begin with `from gevent import monkey; monkey.patch_all()`, as wsgi.py does."
        raise Misconfigured(detail, remedy)
    limits = (settings.history_events, settings.history_bytes, settings.history_age)
    url = urlsplit(settings.broker_url)
    if url.scheme == "sqlite":
        from webapp.brokers.sqlite import SqliteBroker

        return SqliteBroker(_log_file(url.path), *limits)
    if url.scheme in {"redis", "rediss"}:
        from webapp.brokers.redis import RedisBroker

        return RedisBroker(settings.broker_url, settings.history_events, settings.history_age)
    return MemoryBroker(*limits)


def enlist(settings: Settings, broker: Broker) -> Roster:
    """Return the roster that belongs to a log."""
    lease = settings.presence_lease
    url = urlsplit(settings.broker_url)
    if url.scheme == "sqlite":
        from webapp.brokers.roster_sqlite import SqliteRoster

        path = _log_file(url.path)
        return SqliteRoster(path.with_name(f"{path.name}-readers"), lease)
    if url.scheme in {"redis", "rediss"}:
        from webapp.brokers.roster_redis import RedisRoster

        return RedisRoster(cast("RedisBroker", broker).link, lease)
    return MemoryRoster()


def _log_file(path: str) -> Path:
    # The files beside it belong beside the real one, whichever name a process knows it by.
    return Path(os.path.realpath(_ROOT / path[1:]))
