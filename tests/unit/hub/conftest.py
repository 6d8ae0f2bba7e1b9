"""A loop that turns only when a test lets it."""

from __future__ import annotations

import pytest

from support.handover import PLENTY, poll


@pytest.fixture(name="no_clock")
def _no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the loop does when work gives way, and for how long, is for a test to say."""
    monkeypatch.setattr("webapp.hub.delivery.dispatcher._SHORT_PASS_S", PLENTY)
    monkeypatch.setattr("webapp.hub.delivery.dispatcher._GATHER_BYTES", 0)
    monkeypatch.setattr("webapp.scheduling._SLICE_S", PLENTY)
    monkeypatch.setattr("webapp.scheduling.yield_to_loop", poll)
    monkeypatch.setattr("webapp.hub.streams.stream.yield_to_loop", poll)
