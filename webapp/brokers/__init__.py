"""Which log a URL means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from webapp.brokers.memory import MemoryBroker

if TYPE_CHECKING:
    from webapp.brokers.base import Broker
    from webapp.settings import Settings


def connect(settings: Settings) -> Broker:
    """Return the broker that `TIDINGS_BROKER_URL` names; so far there is one."""
    return MemoryBroker(settings.history_events, settings.history_bytes, settings.history_age)
