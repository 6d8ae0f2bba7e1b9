"""A stream without control events: only published events end in a blank line."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import gevent
import pytest

from support.hub import Subscriber, make_hub, publish
from support.waiting import PATIENCE
from webapp.auth.authorizer import Grant
from webapp.brokers.base import Gap
from webapp.core.events import EventId
from webapp.hub.delivery.feeds import Form
from webapp.hub.reads.start import Start

if TYPE_CHECKING:
    from collections.abc import Iterator

    from webapp.hub.hub import Hub

FIRST = rb"retry: \d+\nid: \d+-\d+\n"
LAST = rb"retry: \d+\n"
FOREVER = Grant()


@pytest.fixture(name="hub")
def _hub() -> Iterator[Hub]:
    hub = make_hub(window_events=4, history_events=4, drain=1000)
    hub.start()
    yield hub
    hub.stop()


def listen(hub: Hub, grant: Grant = FOREVER) -> Subscriber:
    topics = frozenset({"t"})
    subscriber = Subscriber(hub.subscribe(topics, grant, Start(), form=Form(control=False)))
    with gevent.Timeout(PATIENCE):
        while not subscriber.subscription.parked:
            gevent.sleep(0.001)
    return subscriber


def whole(subscriber: Subscriber) -> bytes:
    """Return what the subscriber was sent, after its end."""
    subscriber.task.join(PATIENCE)
    return b"".join(subscriber.raw)


def test_an_end_is_told_by_the_reconnection_time_alone(hub: Hub) -> None:
    subscriber = listen(hub)
    subscriber.subscription.end("max_age")
    assert re.fullmatch(FIRST + LAST, whole(subscriber))


def test_a_gap_ends_it_and_the_clients_come_back_one_after_another(hub: Hub) -> None:
    subscribers = [listen(hub) for _ in range(20)]
    hub.dispatcher._jump_gap(Gap(EventId(1, 0), "unknown"))
    said = [whole(subscriber) for subscriber in subscribers]
    assert all(re.fullmatch(FIRST + LAST, it) for it in said)
    assert {subscriber.subscription.reason for subscriber in subscribers} == {"gap"}
    assert max(int(it.split()[-1]) for it in said) > 100_000  # spread over the time of a drain


def test_presence_events_that_are_missing_end_it(hub: Hub) -> None:
    subscriber = listen(hub)
    stream = subscriber.subscription
    assert stream._reset("presence") == ()
    assert stream.reason == "gap"
    subscriber.leave()


def test_it_gets_no_mark(hub: Hub) -> None:
    subscriber = listen(hub)
    publish(hub, *"abcdefgh", topic="other")
    gevent.sleep(0.01)
    hub.fanout.refresh_cursors()
    publish(hub, "x")
    assert subscriber.await_data(1) == ["x"]
    subscriber.leave()
    assert re.fullmatch(FIRST + rb"id: \d+-\d+\ndata: x\n\n", whole(subscriber))


def test_it_is_not_warned_that_its_token_expires(hub: Hub) -> None:
    subscriber = listen(hub, Grant(expires=time.time() + 30))
    subscriber.subscription.check_deadlines(time.monotonic() + 1)
    assert subscriber.subscription.deadlines.warning_due
    publish(hub, "x")
    assert subscriber.await_data(1) == ["x"]
    assert not subscriber.subscription.deadlines.warning_due
    subscriber.leave()
    assert re.fullmatch(FIRST + rb"id: \d+-\d+\ndata: x\n\n", whole(subscriber))


def test_clients_of_more_streams_come_back_over_a_longer_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("webapp.hub.streams.control_stream._RETURNS_PER_S", 0.01)
    hub = make_hub(drain=1)
    hub.start()
    subscribers = [listen(hub) for _ in range(20)]
    hub.drain()
    said = [whole(subscriber) for subscriber in subscribers]
    hub.stop()
    assert max(int(it.split()[-1]) for it in said) > 100_000
