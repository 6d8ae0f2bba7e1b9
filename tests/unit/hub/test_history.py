"""History: where a stream begins, and what is read from the event log for it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import gevent
import pytest

from support.hub import LaggingBroker, Subscriber, make_hub, publish, subscribe, until_read
from support.waiting import PATIENCE, one_of_three
from webapp import scheduling
from webapp.brokers.base import Gap, TopicPage
from webapp.brokers.memory import MemoryBroker
from webapp.core import sse
from webapp.core.events import Draft, Event, EventId
from webapp.core.topic_index import TopicIndex
from webapp.errors import ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from webapp.brokers.base import Followed
    from webapp.hub.hub import Hub


def test_a_cursor_ahead_of_this_process_needs_no_reset() -> None:
    broker = LaggingBroker()
    hub = make_hub(broker)
    events = publish(hub, "a", "b", "c")
    gevent.sleep(0)
    assert hub.window.head < events[0].position
    subscriber = Subscriber(subscribe(hub, cursor=events[1].id))
    gevent.sleep(0.01)
    broker.released.set()
    assert subscriber.await_data(1) == ["c"]
    assert [m.type for m in subscriber.messages()] == ["hub.open", "message"]
    assert subscriber.messages()[0].id == events[1].id
    subscriber.leave()
    hub.stop()


class CountingBroker(MemoryBroker):
    """A log that counts how often it is read."""

    def __init__(self) -> None:
        super().__init__(10_000, 1 << 20, 3600)
        self.asked = 0

    def read(self, after: EventId, max_bytes: int) -> list[Event]:
        self.asked += 1
        return super().read(after, max_bytes)

    def read_topics(self, after: EventId, max_bytes: int, topics: Sequence[str]) -> TopicPage:
        self.asked += 1
        return super().read_topics(after, max_bytes, topics)

    def position_of(self, id: str) -> EventId | None:
        self.asked += 1
        return super().position_of(id)


def test_a_thousand_resuming_subscribers_do_not_read_the_event_log() -> None:
    broker = CountingBroker()
    events = broker.append([Draft(topics=("t",), data=str(n), id=f"id {n}") for n in range(100)])
    hub = make_hub(broker)  # of the process that was deployed
    hub.start()
    cursors = [str(events[50].position), events[50].id]
    subscribers = [Subscriber(subscribe(hub, cursor=cursors[n % 2])) for n in range(1000)]
    for subscriber in subscribers:
        assert subscriber.await_data(49) == [str(n) for n in range(51, 100)]
    assert broker.asked == 0
    for subscriber in subscribers:
        subscriber.leave()
    hub.stop()


@pytest.mark.parametrize("topic", ["t", "{name}", "other"])
def test_a_window_without_an_index_gets_one_in_short_steps(
    topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = make_hub(window_events=10_000)
    first = publish(hub, "first")[0].id
    until_read(hub, publish(hub, *map(str, range(5000))))
    added, add = Counter[int](), TopicIndex.add

    def note(index: TopicIndex, event: Event) -> None:
        added[gevent.get_hub().loop.iteration] += index is hub.window._index
        add(index, event)

    monkeypatch.setattr(TopicIndex, "add", note)
    monkeypatch.setattr(scheduling, "_SLICE_S", 0)
    options: dict[str, Any] = {"last": 1} if topic == "other" else {"cursor": first}
    subscriber = Subscriber(subscribe(hub, topic, **options))
    with gevent.Timeout(10):
        while added.total() < 5001:
            gevent.sleep(0.001)
    assert max(added.values()) <= 256
    subscriber.leave()
    hub.stop()


@pytest.mark.parametrize("topic", ["rare/1", "rare/{number}"])
def test_the_newest_of_a_rare_topic_are_found_whatever_lies_between(topic: str) -> None:
    hub = hub_with_a_rare_topic()
    subscribers = [Subscriber(subscribe(hub, topic, last=last)) for last in (1, 2, 3, 4)]
    publish(hub, "now", topic="rare/1")
    data = ["first", "long ago", "lately", "now"]
    for number, subscriber in enumerate(subscribers, 2):
        assert subscriber.await_data(min(number, 4)) == data[-number:]
        subscriber.leave()
    hub.stop()


def test_a_search_for_the_newest_events_does_not_walk_through_the_whole_log() -> None:
    hub = hub_with_a_rare_topic(private=True)
    subscriber = Subscriber(subscribe(hub, "*", last=2))
    publish(hub, "now", topic="rare/1")
    assert subscriber.await_data(2) == ["lately", "now"]
    subscriber.leave()
    hub.stop()


def hub_with_a_rare_topic(*, private: bool = False) -> Hub:
    """Return a hub with some events of a rare topic, far apart."""
    hub = make_hub(window_events=100)
    publish(hub, "first", "long ago", topic="rare/1")
    publish(hub, *map(str, range(2000)), private=private)
    until_read(hub, publish(hub, "lately", topic="rare/1"))
    return hub


class SlowBroker(MemoryBroker):
    """A log that takes its time for a page, and may be away."""

    away = False
    reads = reading = most = 0

    def read(self, after: EventId, max_bytes: int) -> list[Event]:
        self.reads, self.reading = self.reads + 1, self.reading + 1
        self.most = max(self.most, self.reading)
        gevent.sleep(0.03)
        self.reading -= 1
        if self.away:
            detail = "It is away."
            raise ServiceUnavailable(detail, "Wait.")
        return super().read(after, max_bytes)

    def read_topics(self, after: EventId, max_bytes: int, topics: Sequence[str]) -> TopicPage:
        self.read(after, 1)
        return super().read_topics(after, max_bytes, topics)


def test_catch_up_reads_are_limited_and_share_failures() -> None:
    assert one_of_three(reads_in_vain, lambda reads: reads < 20) < 20


def reads_in_vain() -> int:
    """Let many subscribers catch up with a log that is away for a while."""
    broker = SlowBroker(10_000, 1 << 30, 3600)
    broker.append([Draft(topics=("t",), data=str(n)) for n in range(100)])
    hub = make_hub(broker, window_events=10, heartbeat=0.5)
    streams = [subscribe(hub, cursor="earliest") for _ in range(50)]
    broker.away = True
    subscribers = [Subscriber(stream) for stream in streams]
    with gevent.Timeout(PATIENCE):
        while not all(sse.HEARTBEAT in subscriber.raw for subscriber in subscribers):
            gevent.sleep(0.001)
    reads = broker.reads
    broker.away = False
    for subscriber in subscribers:
        assert subscriber.await_data(100) == [str(n) for n in range(100)]
        subscriber.leave()
    assert broker.most == 2
    hub.stop()
    return reads


def test_a_long_replay_without_matches_sends_marks() -> None:
    hub = make_hub(SlowBroker(10_000, 1 << 30, 3600), window_events=100, heartbeat=0.02)
    events = publish(hub, *map(str, range(9000)), private=True)
    subscriber = Subscriber(subscribe(hub, "*", cursor="earliest"))  # which walks through all
    with gevent.Timeout(PATIENCE):
        while subscriber.subscription not in subscriber.subscription.feed.parked:
            gevent.sleep(0.001)
    marks = [EventId.parse(m.id) for m in subscriber.messages() if m.type == "hub.mark"]
    assert marks == sorted(set(marks))  # type: ignore[type-var] # all are places
    assert marks
    assert any(event.position == marks[0] for event in events)
    subscriber.leave()
    hub.stop()


class TornBroker(MemoryBroker):
    """A log that loses its end where the test says so."""

    def follow(self, after: EventId) -> Iterator[Followed]:
        for events in super().follow(after):
            assert isinstance(events, list)
            torn = events[-1].draft.data == "torn"
            yield Gap(events[-1].position, "unknown") if torn else events


def test_every_subscriber_gets_a_reset_at_a_gap_and_continues_after_it() -> None:
    hub = make_hub(TornBroker(10_000, 1 << 20, 3600))
    hub.start()
    subscribers = [Subscriber(subscribe(hub)) for _ in range(3)]
    gevent.sleep(0)
    publish(hub, "before")
    for subscriber in subscribers:
        subscriber.await_data(1)
    [torn] = publish(hub, "torn")
    gevent.sleep(0.01)
    publish(hub, "after")
    for subscriber in subscribers:
        subscriber.await_data(2)
        messages = [(m.type, m.data) for m in subscriber.messages()[1:]]
        reset = ("hub.reset", '{"reason": "unknown"}')
        assert messages == [("message", "before"), reset, ("message", "after")]
        assert subscriber.messages()[2].id == str(torn.position)
        subscriber.leave()
    hub.stop()


def test_after_a_gap_who_asked_for_the_latest_gets_a_snapshot() -> None:
    hub = make_hub(TornBroker(10_000, 1 << 20, 3600))
    hub.start()
    publish(hub, "before")
    subscriber = Subscriber(subscribe(hub, latest=True))
    subscriber.await_data(1)
    [torn] = publish(hub, "torn")
    assert subscriber.await_data(2) == ["before", "torn"]
    messages = [(m.type, m.id == str(torn.position)) for m in subscriber.messages()[2:]]
    assert messages == [("hub.reset", False), ("message", True)]
    assert subscriber.raw[-2] == b'event: hub.reset\ndata: {"reason": "unknown"}\n\n'
    subscriber.leave()
    hub.stop()


def test_heartbeats_advance_the_cursor_past_unmatched_events() -> None:
    hub = make_hub(window_events=4, history_events=4, heartbeat=0.01)
    subscriber = Subscriber(subscribe(hub, "quiet"))
    for _ in range(30):
        publish(hub, "unseen", "unseen", topic="busy")
        gevent.sleep(0.005)
    publish(hub, "seen", topic="quiet")
    assert subscriber.await_data(1) == ["seen"]
    assert sse.HEARTBEAT in subscriber.raw
    assert "hub.reset" not in {m.type for m in subscriber.messages()}
    subscriber.leave()
    hub.stop()


def test_counting_what_was_missed_does_not_hold_up_the_first_bytes(hub: Hub) -> None:
    start = publish(hub, "first")[0].id
    publish(hub, *map(str, range(100)))
    gevent.sleep(0.01)
    few = next(subscribe(hub, cursor=start).frames())
    publish(hub, *map(str, range(1000)))
    gevent.sleep(0.01)
    many = next(subscribe(hub, cursor=start).frames())
    assert b'"replay": 100,' in few
    assert b'"replay": null,' in many
