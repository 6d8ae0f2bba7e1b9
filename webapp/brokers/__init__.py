"""Which log a URL means."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from webapp.brokers.memory import MemoryBroker
from webapp.errors import Misconfigured

if TYPE_CHECKING:
    from webapp.brokers.base import Broker
    from webapp.settings import Settings


def connect(settings: Settings) -> Broker:
    """Return the broker that `TIDINGS_BROKER_URL` names.

    :raises Misconfigured: no broker has that scheme.
    """
    if urlsplit(settings.broker_url).scheme != "memory":
        detail = "TIDINGS_BROKER_URL names a log that this version does not know."
        raise Misconfigured(detail, "Set it to memory://, or leave it out.")
    return MemoryBroker(settings.history_events, settings.history_bytes, settings.history_age)
