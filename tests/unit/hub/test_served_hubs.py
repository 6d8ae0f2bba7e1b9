"""The hubs that one worker serves."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import pytest

from support.hub import make_hub
from webapp.errors import ServiceUnavailable
from webapp.hub.quota import StreamQuota
from webapp.hub.served_hubs import ServedHubs

if TYPE_CHECKING:
    from webapp.hub.hub import Hub


def test_they_share_the_room_that_the_worker_has_for_streams(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hubs = [make_hub(), make_hub()]
    for hub in hubs:
        hub.quota = StreamQuota(100, 0)
    built: WeakKeyDictionary[Hub, None] = WeakKeyDictionary(dict.fromkeys(hubs))
    monkeypatch.setattr(ServedHubs, "built", built)
    ServedHubs(None).cap_streams(4)
    for hub in hubs:
        for client in ("a", "b"):
            hub.quota.check(client)
            hub.quota.acquire(client)
        with pytest.raises(ServiceUnavailable):
            hub.quota.check("c")
        hub.broker.close()
