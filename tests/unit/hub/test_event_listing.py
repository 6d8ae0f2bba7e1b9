"""Lists of events for one answer: their bounds, and what happens while they are read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import gevent
import pytest

from support.hub import LaggingBroker, make_hub, publish
from webapp.auth.authorizer import Grant
from webapp.brokers.base import stopping
from webapp.brokers.memory import MemoryBroker
from webapp.errors import BadRequest, ServiceUnavailable
from webapp.hub.listings.event_listing import list_events
from webapp.hub.reads.reservations import Reservations
from webapp.hub.reads.start import Start

if TYPE_CHECKING:
    from webapp.brokers.base import Bounds, TopicPage
    from webapp.core.events import EventId
    from webapp.hub.hub import Hub
    from webapp.hub.listings.event_listing import ListedEvents

ALL: dict[str, Any] = {"cursor": "earliest"}


def listed(hub: Hub, *topics: str, limit: int = 100, **start: Any) -> ListedEvents:
    patterns = frozenset(topics or ("t",))
    found = list_events(
        hub, patterns, Grant(), Start(**start), limit=limit, client="c", socket=None
    )
    found.close()
    return found


def data(found: ListedEvents) -> list[str]:
    return [json.loads(it)["data"] for it in found.envelopes]


def test_an_answer_ends_where_its_bytes_are_used_up(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = publish(hub, *("x" * 1000 for _ in range(5)))
    monkeypatch.setattr(hub, "listed_bytes", Reservations(0, 2500, 2500))
    found = listed(hub, **ALL)
    assert (len(found.envelopes), found.more) == (3, True)
    assert found.last_id == str(large[2].position)
    rest = listed(hub, cursor=found.last_id)
    assert (len(rest.envelopes), rest.more) == (2, False)
    monkeypatch.setattr(hub, "listed_bytes", Reservations(0, 1, 1))
    assert len(listed(hub, **ALL).envelopes) == 1  # at least one


def test_a_snapshot_that_is_too_large_is_refused(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        publish(hub, "x" * 1000, topic=name)
    for reserved, limit, why in ((9999, 2, "more than the limit, 2"), (1500, 9, "1500 bytes")):
        monkeypatch.setattr(hub, "listed_bytes", Reservations(0, reserved, reserved))
        with pytest.raises(BadRequest, match=why):
            listed(hub, "*", latest=True, limit=limit)
        assert not hub.listed_bytes._reserved_by


def test_an_event_that_was_answered_is_listed_though_this_process_has_not_read_it() -> None:
    broker = LaggingBroker()
    hub = make_hub(broker)
    publish(hub, "1", "2")
    reader = gevent.spawn(listed, hub, last=1)
    gevent.sleep(0.02)
    assert not reader.ready()
    broker.released.set()
    assert data(reader.get(timeout=10)) == ["2"]
    hub.stop()


def test_a_process_that_stays_behind_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webapp.hub.reads.log_reader._BEHIND_S", 0.01)
    hub = make_hub(LaggingBroker())
    publish(hub, "1")
    with pytest.raises(ServiceUnavailable, match="has not read the newest events"):
        listed(hub, **ALL)
    assert not hub.listed_bytes._reserved_by
    hub.stop()


class LostBroker(MemoryBroker):
    """An event log that is not available once it is lost."""

    lost = False

    def bounds(self) -> Bounds:
        if self.lost:
            raise stopping()
        return super().bounds()


def test_without_the_event_log_there_is_no_answer() -> None:
    broker = LostBroker(100, 1 << 20, 3600)
    hub = make_hub(broker)
    publish(hub, "1")
    broker.lost = True
    with pytest.raises(ServiceUnavailable):
        listed(hub)
    hub.stop()


class TrimmingBroker(MemoryBroker):
    """An event log that is trimmed after each page."""

    trim_to: EventId | None = None

    def read_page(self, after: EventId, _: int) -> TopicPage:
        found = super().read_page(after, 1)
        if self.trim_to:
            self._window.drop_before(self.trim_to)
        return found


def test_what_is_trimmed_meanwhile_is_said_by_the_next_page() -> None:
    broker = TrimmingBroker(100, 1 << 20, 3600)
    hub = make_hub(broker, window_events=1)
    events = publish(hub, *"12345")
    with gevent.Timeout(10):
        while hub.window.floor < events[3].position:
            gevent.sleep(0.001)
    start = listed(hub, "*", limit=1, **ALL)
    assert (data(start), start.more, start.reset_reason) == (["1"], True, None)
    broker.trim_to = events[3].position
    found = listed(hub, "*", cursor=start.last_id)
    assert (data(found), found.more, found.reset_reason) == (["2"], True, None)
    found = listed(hub, "*", cursor=found.last_id)
    assert (data(found), found.more, found.reset_reason) == (["4", "5"], False, "aged")
    hub.stop()
