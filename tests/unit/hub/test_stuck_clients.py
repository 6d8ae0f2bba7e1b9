"""A client that cannot read an event is reported, and others are not."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import gevent
import pytest

from support.hub import Subscriber, publish, subscribe
from webapp.hub import stuck_clients

if TYPE_CHECKING:
    from webapp.hub.hub import Hub


@pytest.fixture(name="reports")
def _reports(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    counted: list[int] = []
    monkeypatch.setattr(hub.metrics.stuck_clients, "add", lambda: counted.append(1))
    return counted


def come_and_go(hub: Hub, times: int, **start: Any) -> None:
    for _ in range(times):
        subscriber = Subscriber(subscribe(hub, **start))
        gevent.sleep(0.01)
        subscriber.leave()


def test_the_fifth_time_at_the_same_event_is_logged_and_counted(
    hub: Hub, reports: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    [before] = publish(hub, "before")
    publish(hub, "cannot be read")
    gevent.sleep(0.01)
    with caplog.at_level(logging.WARNING):
        come_and_go(hub, 4, cursor=str(before.position))
        assert not reports
        come_and_go(hub, 1, cursor=str(before.position))
    assert reports == [1]
    assert f"again and again: client=- after={before.position}" in caplog.text
    assert not hub.observers[1]._starts  # type: ignore[attr-defined]


def test_a_client_is_logged_once_a_minute_and_counted_each_time(
    hub: Hub, reports: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    events = publish(hub, *"abcdef")
    gevent.sleep(0.01)
    with caplog.at_level(logging.WARNING):
        for event in events[:-1]:
            come_and_go(hub, 5, cursor=str(event.position))
    assert len(reports) == 5
    assert caplog.text.count("again and again") == 1


def test_who_goes_on_or_has_nothing_to_read_is_not_reported(hub: Hub, reports: list[int]) -> None:
    cursor = str(publish(hub, "a")[0].position)
    for _ in range(6):
        [event] = publish(hub, "x")
        gevent.sleep(0.01)
        come_and_go(hub, 1, cursor=cursor)  # a new cursor each time
        cursor = str(event.position)
    come_and_go(hub, 6, cursor=cursor)  # nothing follows
    assert not reports


def test_long_streams_are_not_counted(
    hub: Hub, reports: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stuck_clients, "_SHORT_STREAM_S", -1)
    publish(hub, "a")
    gevent.sleep(0.01)
    come_and_go(hub, 6, cursor="earliest")
    assert not reports


def test_it_remembers_a_bounded_number_of_starts(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stuck_clients, "_MAX_KNOWN_STARTS", 3)
    events = publish(hub, *"abcdefgh")
    gevent.sleep(0.01)
    for event in events[:-1]:
        come_and_go(hub, 1, cursor=str(event.position))
    assert len(hub.observers[1]._attempts) == 3  # type: ignore[attr-defined]
