"""When streams end whose topics end together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gevent

from support.hub import Subscriber, make_hub, subscribe
from support.waiting import PATIENCE
from webapp.core.events import Draft

if TYPE_CHECKING:
    import pytest

    from webapp.core.events import EventId

TOPICS = [f"t{n}" for n in range(20)]


def test_the_events_behind_ends_do_not_wait_for_the_streams_that_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub, done = make_hub(), list[str]()
    hub.start()
    subscribers = [Subscriber(subscribe(hub, it)) for it in (*TOPICS, "good")]
    with gevent.Timeout(PATIENCE):
        while not all(it.subscription.parked for it in subscribers):
            gevent.sleep(0.001)
    for it in subscribers:
        it.subscription.send = lambda _, data: len(data)  # as a socket that has room
    send, look = hub.fanout.send, hub.ends.shared_end_of

    def note_send(*arguments: Any) -> None:
        done.append("send")
        send(*arguments)
        gevent.sleep(0.001)  # as after a slice of time

    def note_look(*arguments: Any) -> EventId | None:
        done.append("look")
        return look(*arguments)

    monkeypatch.setattr(hub.fanout, "send", note_send)
    monkeypatch.setattr(hub.ends, "shared_end_of", note_look)
    hub.publish([*(Draft(topics=(it,), ended=True) for it in TOPICS), Draft(topics=("good",))])
    gevent.joinall([it.task for it in subscribers[:-1]], timeout=PATIENCE, raise_error=True)
    assert done == ["send"] * 21 + ["look"] * 20
    subscribers[-1].leave()
    hub.stop()


def test_streams_end_though_the_rest_of_a_batch_cannot_be_delivered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub = make_hub()
    hub.start()
    subscriber = Subscriber(subscribe(hub, "t0"))
    with gevent.Timeout(PATIENCE):
        while not subscriber.subscription.parked:
            gevent.sleep(0.001)
    subscriber.subscription.send = lambda _, data: len(data)  # as a socket that has room
    send = hub.fanout.send

    def fail_afterwards(*arguments: Any) -> None:
        send(*arguments)
        raise ValueError

    monkeypatch.setattr(hub.fanout, "send", fail_afterwards)
    hub.publish([Draft(topics=("t0",), ended=True)])
    subscriber.task.join(PATIENCE)
    assert subscriber.subscription.reason == "ended"
    hub.stop()
