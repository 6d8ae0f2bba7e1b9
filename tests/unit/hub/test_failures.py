"""A fault of one stream, event or observer ends nothing else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import gevent
import pytest

from support.hub import Subscriber, alive, publish, subscribe
from support.waiting import PATIENCE
from webapp.auth.authorizer import Grant
from webapp.core.events import Event
from webapp.hub.delivery.feeds import Form
from webapp.hub.observer import Observer
from webapp.hub.reads.start import Start

if TYPE_CHECKING:
    from webapp.hub.delivery import subscriber as hub_subscriber
    from webapp.hub.hub import Hub


def test_an_unknown_socket_error_ends_only_its_own_stream(hub: Hub) -> None:
    subscribers = [Subscriber(subscribe(hub, "t")) for _ in range(3)]
    gevent.sleep(0.01)

    def fail(_: object, __: bytes) -> int:
        raise RuntimeError

    subscribers[1].subscription.send = fail
    publish(hub, "a", "b")
    assert subscribers[0].await_data(2) == subscribers[2].await_data(2) == ["a", "b"]
    subscribers[1].task.join(PATIENCE)
    assert subscribers[1].subscription.reason == "error"
    assert alive(hub)


def test_an_event_that_a_feed_cannot_render_is_skipped_there_only(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Subscriber(subscribe(hub, "t"))
    form = Form(envelope=True)
    wrapped = Subscriber(hub.subscribe(frozenset({"t"}), Grant(), Start(), form=form))
    gevent.sleep(0.01)
    envelope_frame = Event.envelope_frame

    def fail(event: Event, topics: tuple[str, ...]) -> bytes:
        if event.draft.data == "bad":
            raise RuntimeError
        return envelope_frame(event, topics)

    monkeypatch.setattr(Event, "envelope_frame", fail)
    publish(hub, "a", "bad", "b")
    publish(hub, "c")
    assert plain.await_data(4) == ["a", "bad", "b", "c"]
    assert [json.loads(it)["data"] for it in wrapped.await_data(3)] == ["a", "b", "c"]
    assert alive(hub)


@pytest.mark.parametrize("parts", ["render", "_deliver"])
def test_subscribers_read_what_the_dispatcher_fails_to_deliver(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, parts: str
) -> None:
    subscribers = [Subscriber(subscribe(hub, it)) for it in ("t", "t", "u")]
    gevent.sleep(0.01)
    failed = []

    def once(*_: Any) -> Any:
        failed.append(1)
        monkeypatch.undo()
        raise RuntimeError

    owner = "feeds.Feed" if parts == "render" else "dispatcher.Dispatcher"
    monkeypatch.setattr(f"webapp.hub.delivery.{owner}.{parts}", once)
    publish(hub, "a")
    publish(hub, "b", topic="u")
    publish(hub, "c")
    assert subscribers[0].await_data(2) == subscribers[1].await_data(2) == ["a", "c"]
    assert subscribers[2].await_data(1) == ["b"]
    assert failed
    assert alive(hub)


def test_an_observer_that_fails_leaves_nobody_counted(hub: Hub) -> None:
    class Failing(Observer):
        def opened(self, subscriber: hub_subscriber.Subscriber) -> None:
            raise RuntimeError(subscriber.name)

        closed = opened

    hub.observers.insert(0, Failing())
    subscriber = Subscriber(subscribe(hub, "t"))
    publish(hub, "a")
    gevent.sleep(0.01)
    subscriber.leave()
    assert len(hub) == 0
