"""A hub with presence, in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.hub import make_hub
from support.tokens import KEY
from webapp.brokers.memory_presence import MemoryPresenceStore
from webapp.presence.service import Presence

if TYPE_CHECKING:
    from collections.abc import Iterator

    from webapp.hub.hub import Hub


@pytest.fixture(name="store")
def _store() -> MemoryPresenceStore:
    return MemoryPresenceStore()


@pytest.fixture(name="hub")
def _hub(store: MemoryPresenceStore) -> Iterator[Hub]:
    hub = make_hub(jwt_key=(KEY,))
    hub.observers.append(Presence(hub, store, lease=0.6))
    hub.start()
    yield hub
    hub.stop()
