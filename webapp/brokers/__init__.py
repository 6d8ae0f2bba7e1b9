"""The event log and the presence store: `TIDINGS_BROKER_URL` names the backend of both."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, cast

from ..errors import Misconfigured
from ..loop_thread import has_gevent
from .memory import MemoryBroker
from .memory_presence import MemoryPresenceStore

if TYPE_CHECKING:
    from ..config.settings import Settings
    from .base import Broker
    from .postgres.broker import PostgresBroker
    from .presence_base import PresenceStore
    from .redis.broker import RedisBroker

_REDIS = ("redis:", "rediss:")
_POSTGRES = ("postgresql:", "postgres:")


def require_gevent() -> None:
    """Refuse to serve subscribers where a broker would block all of them.

    :raises Misconfigured: gevent has not patched the sockets.
    """
    if not has_gevent():
        detail = "gevent has not patched the sockets, so one subscriber would block all others."
        remedy = "Begin with `from gevent import monkey; monkey.patch_all()`, as wsgi.py does."
        raise Misconfigured(detail, remedy)


def connect(settings: Settings) -> Broker:
    """Return the broker that `TIDINGS_BROKER_URL` names; it connects at its first call."""
    limits = (settings.history_events, settings.history_bytes, settings.history_age)
    if path := settings.log_file:
        from .sqlite.broker import SqliteBroker

        return SqliteBroker(path, *limits)
    if settings.broker_url.startswith(_REDIS):
        from .redis.broker import RedisBroker

        return RedisBroker(settings.broker_url, *limits)
    if settings.broker_url.startswith(_POSTGRES):
        _require_psycopg()
        from .postgres.broker import PostgresBroker

        return PostgresBroker(settings.broker_url, *limits)
    return MemoryBroker(*limits)


def connect_presence(settings: Settings, broker: Broker) -> PresenceStore:
    """Return the presence store beside a broker."""
    lease = settings.presence_lease
    if path := settings.log_file:
        from .sqlite.presence import SqlitePresenceStore

        return SqlitePresenceStore(path.with_name(f"{path.name}-readers"), lease)
    if settings.broker_url.startswith(_REDIS):
        from .redis.presence import RedisPresenceStore

        return RedisPresenceStore(cast("RedisBroker", broker).client, lease)
    if settings.broker_url.startswith(_POSTGRES):
        from .postgres.presence import PostgresPresenceStore

        return PostgresPresenceStore(cast("PostgresBroker", broker), lease)
    return MemoryPresenceStore()


def _require_psycopg() -> None:
    """Refuse PostgreSQL where its driver is missing: it is an extra of the package.

    :raises Misconfigured: psycopg is not installed.
    """
    if not find_spec("psycopg"):
        detail = "An event log in PostgreSQL needs the package psycopg, which is not installed."
        raise Misconfigured(detail, 'Run pip install "tidings[postgres]".')
