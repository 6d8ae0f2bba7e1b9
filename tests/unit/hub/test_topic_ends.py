"""Streams of ended topics, in one process."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import gevent
import pytest

from support.hub import LaggingBroker, Subscriber, make_hub, publish, subscribe
from webapp.auth.authorizer import Grant
from webapp.brokers.memory import MemoryBroker
from webapp.core.events import Draft, Event
from webapp.errors import Conflict
from webapp.hub.delivery.feeds import Form
from webapp.hub.demo import Demo
from webapp.hub.reads.start import Start

if TYPE_CHECKING:
    from collections.abc import Sequence

    from webapp.brokers.base import TopicEnd
    from webapp.hub.hub import Hub

BYE = '{"reason": "ended"}'


def end(hub: Hub, *topics: str, **fields: Any) -> Event:
    [event] = hub.publish([Draft(topics=topics, ended=True, **fields)])
    gevent.sleep(0.01)
    return event


def followed(hub: Hub) -> None:
    with gevent.Timeout(10):
        while hub.fanout.dispatched_up_to < hub.broker.bounds().head:
            gevent.sleep(0.001)


def opened(*subscribers: Subscriber) -> None:
    with gevent.Timeout(10):
        while not all(it.subscription.parked for it in subscribers):
            gevent.sleep(0.001)


class CountingBroker(MemoryBroker):
    """Counts the look-ups of ends."""

    def __init__(self) -> None:
        super().__init__(1000, 1 << 20, 3600)
        self.asked = Counter[str]()

    def ends(self, topics: Sequence[str]) -> list[TopicEnd | None]:
        self.asked.update(topics)
        gevent.sleep(0)
        return super().ends(topics)


def test_while_nothing_has_ended_nothing_is_looked_up() -> None:
    broker = CountingBroker()
    hub = make_hub(broker)
    early = [Subscriber(subscribe(hub, topic)) for topic in ("a", "b", "*")]
    opened(*early)
    publish(hub, "x", topic="a")
    assert early[0].await_data(1) == ["x"]
    assert not broker.asked
    end(hub, "b")
    early[1].task.join(10)
    assert broker.asked == {"b": 1}
    publish(hub, "y", topic="a")
    assert early[0].await_data(2) == ["x", "y"]
    assert early[2].await_data(3) == ["x", "", "y"]
    assert broker.asked == {"b": 1}
    late = [Subscriber(subscribe(hub, topic)) for topic in ("a", "*")]
    opened(*late)
    assert broker.asked == {"a": 1, "b": 1}
    for subscriber in (early[0], early[2], *late):
        subscriber.leave()
    hub.stop()


def test_streams_that_end_together_share_a_look_up() -> None:
    broker = CountingBroker()
    hub = make_hub(broker)
    streams = [Subscriber(subscribe(hub, "a", "b")) for _ in range(200)]
    opened(*streams)
    end(hub, "a")
    opened(*streams)
    end(hub, "b")
    gevent.joinall([it.task for it in streams], timeout=10, raise_error=True)
    assert {tuple(m.data for m in it.messages()[1:]) for it in streams} == {("", "", BYE)}
    assert broker.asked["a"] < 10
    hub.flush_metrics()
    assert hub.metrics.numbers().by_label("streams_ended_total") == {"ended": 200}
    hub.stop()


class SlowBroker(MemoryBroker):
    """Ends the topic `b` while it answers whether `a` and `b` have ended."""

    def __init__(self) -> None:
        super().__init__(1000, 1 << 20, 3600)
        self.hub: Hub | None = None

    def ends(self, topics: Sequence[str]) -> list[TopicEnd | None]:
        found = super().ends(topics)
        hub, self.hub = self.hub, None
        if hub:
            end(hub, "b")
            followed(hub)
        return found


def test_a_topic_that_ends_during_a_look_up_ends_its_streams() -> None:
    broker = SlowBroker()
    hub = make_hub(broker)
    streams = [Subscriber(subscribe(hub, "a", "b")) for _ in range(2)]
    opened(*streams)
    broker.hub = hub
    end(hub, "a")
    gevent.joinall([it.task for it in streams], timeout=10)
    assert [it.subscription.reason for it in streams] == ["ended", "ended"]
    hub.stop()


@pytest.mark.parametrize("moment", ["before it opens", "while it opens", "when it is parked"])
@pytest.mark.parametrize("control", [True, False])
def test_a_process_that_is_behind_ends_the_stream_when_it_has_read_the_end(
    moment: str, *, control: bool
) -> None:
    """Its client has seen the end elsewhere, and comes back."""
    broker = LaggingBroker()
    hub = make_hub(broker)
    hub.start()
    [event] = broker.append([Draft(topics=("t",), ended=True)])
    stream = hub.subscribe(frozenset({"t"}), _grant(), _start(event), form=Form(control=control))
    assert stream.reason is None
    if moment == "before it opens":
        broker.released.set()
        gevent.sleep(0.05)
        assert hub.window.head == event.position
    subscriber = Subscriber(stream)
    if moment == "while it opens":
        broker.released.set()
    else:
        gevent.sleep(0.05)
        broker.released.set()
    subscriber.task.join(10)
    assert stream.reason == "ended"
    assert subscriber.data() == []
    hub.stop()


def test_a_trimmed_end_does_not_count() -> None:
    hub = make_hub(history_events=5)
    both = Subscriber(subscribe(hub, "a", "b"))
    opened(both)
    last = end(hub, "a")
    assert subscribe(hub, "a").reason == "ended"
    publish(hub, *map(str, range(20)), topic="other")
    gevent.sleep(0.01)
    publish(hub, "x", topic="other")
    assert hub.broker.ends(["a"]) == [None]
    assert subscribe(hub, "a").reason is None
    assert subscribe(hub, "a", cursor=str(last.position)).reason is None
    end(hub, "b")
    assert both.await_data(2) == ["", ""]
    publish(hub, "again", topic="a")
    assert both.await_data(3)[2] == "again"
    both.leave()
    hub.stop()


def test_a_gap_does_not_hide_ends(hub: Hub) -> None:
    end(hub, "t")
    hub.window.clear(hub.window.head)  # as after a gap in the event log
    assert subscribe(hub, "t").reason == "ended"
    assert subscribe(hub, "u").reason is None


def test_a_hub_that_starts_knows_of_old_ends() -> None:
    broker = MemoryBroker(1000, 1 << 20, 3600)
    broker.append([Draft(topics=("t",), ended=True)])
    broker.append([Draft(topics=("other",))] * 20)
    hub = make_hub(broker, window_events=5)
    hub.start()
    assert hub.window.end_of("t") is None
    assert subscribe(hub, "t").reason == "ended"
    assert subscribe(hub, "other").reason is None
    hub.stop()


def test_the_demo_stops_when_somebody_has_ended_its_topic(hub: Hub) -> None:
    hub.publish([Draft(topics=("events",), ended=True)])
    task = gevent.spawn(Demo(hub.publish)._run)
    task.join(10)
    assert task.successful()


def test_at_random_each_is_told_what_it_must_be() -> None:
    """Publishers, ends, trims, and subscribers with any cursor, against a model."""
    chance, topics, told = random.Random(1), ["a", "b", "c"], Counter[str]()
    hub = make_hub(history_events=25)
    hub.start()
    events = list[Event]()
    for _ in range(600):
        names = tuple(chance.sample(topics, chance.choice([1, 1, 2])))
        floor = hub.broker.bounds().floor
        ends = {
            t: it
            for it in events
            if it.draft.ended and it.position > floor
            for t in it.draft.topics
        }
        if chance.random() < 0.5:
            other = chance.random() < 0.5
            draft = Draft(
                topics=("other",) if other else names,
                ended=not other and chance.random() < 0.3,
                private=chance.random() < 0.2,
                data=str(len(events)),
            )
            refused = any(it in ends for it in draft.topics)
            with pytest.raises(Conflict) if refused else nullcontext():
                events += hub.publish([draft])
            told["refused"] += refused
            gevent.sleep(0)
            continue
        followed(hub)
        floor = hub.broker.bounds().floor
        ends = {
            t: it
            for it in events
            if it.draft.ended and it.position > floor
            for t in it.draft.topics
        }
        granted = chance.random() < 0.5
        seen = [
            it
            for it in events
            if {*names} & {*it.draft.topics}
            and (not it.draft.private or (granted and "a" in it.draft.topics))
        ]
        kept = [it.position for it in events if it.position > floor]
        cursor = chance.choice([None, "earliest", *map(str, kept)])
        stream = subscribe(hub, *names, granted="a" if granted else "", cursor=cursor)
        start = stream.cursor
        last = [ends.get(it) for it in names]
        is_over = all(it in seen for it in last)
        upto = max((it.position for it in last if it), default=start)
        if is_over and start >= upto:
            assert stream.reason == "ended"
            told["204"] += 1
            continue
        assert stream.reason is None
        subscriber = Subscriber(stream)
        wanted = [it.draft.data for it in seen if it.position > start]
        assert subscriber.await_data(len(wanted)) == wanted
        if is_over:
            subscriber.task.join(10)
            assert stream.reason == "ended"
            assert subscriber.messages()[-1].data == BYE
        else:
            opened(subscriber)
            subscriber.leave()
        told["ended" if is_over else "open"] += 1
    assert min(told[it] for it in ("refused", "204", "ended", "open")) > 10, told
    hub.stop()


def _grant() -> Grant:
    return Grant(subscribe=frozenset())


def _start(event: Event) -> Start:
    return Start(cursor=str(event.position))
