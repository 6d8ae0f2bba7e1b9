"""What a subscriber missed is found by the index by topic."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import gevent
import pytest

from support.hub import NOBODY, Subscriber, make_hub, publish, subscribe, until_read
from webapp.brokers.memory import MemoryBroker
from webapp.core.events import Draft, Event
from webapp.hub.delivery.feeds import Feed
from webapp.hub.read_queue import Reading
from webapp.hub.reads.start import Start

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from webapp.core.events import EventId
    from webapp.core.topic_index import DirectoryPage
    from webapp.hub.hub import Hub

ANYBODY = frozenset({"*"})
TOPICS = [f"{first}/{number}" for first in "ab" for number in range(15)]
SELECTORS = [("a/1", "b/2"), ("a/{n}",), ("{x}/3", "a/1"), ("*",), ("b/1{n}",)]


@pytest.fixture(name="hub")
def _hub() -> Iterator[Hub]:
    """A hub that holds little of its event log in its window."""
    hub = make_hub(MemoryBroker(100_000, 1 << 30, 3600), window_events=50)
    hub.start()
    yield hub
    hub.stop()


def catch_up(hub: Hub, feed: Feed, after: EventId) -> list[Event]:
    """Return what is found after a position."""
    reading, found = Reading("a"), list[Event]()
    while True:
        look = hub.history.look(feed, reading, after)
        assert not look.gap
        found += look.seen
        after = look.upto
        if not look.more:
            return found


@pytest.mark.parametrize("selectors", [("rare/1",), ("rare/{n}",), ("rare/{n}", "none", "{x}/9")])
def test_what_lies_between_is_not_matched(
    hub: Hub, selectors: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    start = hub.window.head
    one = publish(hub, "1", topic="rare/1")
    for _ in range(20):
        until_read(hub, publish(hub, *map(str, range(200))))
    until_read(hub, two := publish(hub, "2", topic="rare/1"))
    feed = Feed(frozenset(selectors), NOBODY)
    matches, matched = feed.matches, list[Event]()

    def note(event: Event) -> bool:
        matched.append(event)
        return matches(event)

    monkeypatch.setattr(feed, "matches", note)
    assert catch_up(hub, feed, start) == matched == one + two
    found, _ = hub.starts.find(Start(last=2), feed, Reading("a"))
    assert found == start
    assert len(matched) < 60  # a pattern's search begins in the window


def test_topics_that_leave_the_window_during_a_lookup_are_not_forgotten(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, window = hub.window.head, hub.window
    events = [publish(hub, "x", topic=f"t/{number}")[0] for number in range(3)]
    until_read(hub, events)
    sort_names = window.sort_names

    def drop_and_sort() -> Iterator[None]:
        window.drop_before(events[2].position)
        return sort_names()

    monkeypatch.setattr(window, "sort_names", drop_and_sort)
    assert catch_up(hub, Feed(frozenset({"t/{n}"}), NOBODY), start) == events


@pytest.mark.parametrize("bound", ["_MAX_CANDIDATES", "_MAX_CHARS"])
def test_a_pattern_that_matches_too_much_walks_through_the_log(
    hub: Hub, bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"webapp.hub.reads.topic_lookup.{bound}", 20)
    events = [publish(hub, "x", topic=f"many/{number}")[0] for number in range(200)]
    until_read(hub, events)
    monkeypatch.setattr(hub.broker, "read_topics", lambda *_: pytest.fail("the index is asked"))
    feed = Feed(frozenset({"many/{n}"}), NOBODY)
    assert catch_up(hub, feed, events[10].position) == events[11:]


def test_a_lookup_serves_all_that_ask_for_the_same(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = [publish(hub, "x", topic=f"t/{number}")[0] for number in range(200)]
    until_read(hub, events)
    asked = list[str]()
    topics = hub.broker.topics

    def note(prefix: str, *args: Any) -> DirectoryPage:
        asked.append(prefix)
        return topics(prefix, *args)

    monkeypatch.setattr(hub.broker, "topics", note)
    feeds = [Feed(frozenset({"t/1{n}"}), granted) for granted in (NOBODY, ANYBODY)]
    for feed in feeds * 10:
        assert len(catch_up(hub, feed, events[0].position)) == 111
    assert asked == ["t/1"]


@pytest.mark.parametrize("seed", range(6))
def test_whoever_returns_gets_what_was_missed_once_and_in_order(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    monkeypatch.setattr("webapp.hub.reads.topic_lookup._PAGE_NAMES", 3)
    monkeypatch.setattr("webapp.hub.reads.topic_lookup._MAX_CANDIDATES", chance.choice([10, 1000]))
    monkeypatch.setattr("webapp.hub.reads.topic_lookup._REMEMBERED_LOOKUPS", chance.choice([0, 2]))
    monkeypatch.setattr("webapp.hub.reads.history.PAGE_BYTES", 300)
    hub = make_hub(window_events=chance.choice([3, 20, 1000]))
    published: list[Event] = []

    def publish_some() -> None:
        for _ in range(60):
            topics = chance.sample(TOPICS, chance.choice([1, 1, 2]))
            draft = Draft(topics=tuple(topics), private=chance.random() < 0.2)
            events = hub.publish([draft] * chance.choice([1, 5]))
            published.extend(events)
            gevent.sleep(0)

    hub.start()
    start = hub.window.head
    publish_some()
    publisher = gevent.spawn(publish_some)
    for _ in range(20):
        selectors = chance.choice(SELECTORS)
        granted = chance.choice(["", "*", "a/{n}"])
        feed = Feed(frozenset(selectors), frozenset({granted} - {""}))
        after = chance.choice([start, *(it.position for it in published)])
        found = catch_up(hub, feed, after)
        # The event log may be ahead of the window.
        upto = max([after, *(it.position for it in found)])
        if publisher.dead:
            upto = max(upto, hub.window.head)
        wanted = [it for it in published if after < it.position <= upto and feed.matches(it)]
        assert found == wanted, selectors
        gevent.sleep(0)
    publisher.join()
    hub.stop()


def draft(*topics: str, data: str, private: bool = False) -> Draft:
    return Draft(topics=topics, data=data, id="same", private=private)


@pytest.mark.parametrize(
    ("topics", "granted", "missed"),
    [
        (("a",), "", ["b", "a2"]),
        (("b",), "", ["b2"]),  # the one of `a` is not one that it sees
        (("{x}",), "", ["b", "a2", "b2"]),
        (("*",), "", ["b", "a2", "b2"]),
        (("secret",), "secret", ["secret 2"]),
        (("secret",), "", None),  # as one that nobody has
        (("none",), "*", None),
    ],
)
def test_an_own_id_is_sought_among_what_the_stream_sees_and_the_oldest_counts(
    topics: Sequence[str], granted: str, missed: list[str] | None
) -> None:
    for size in (2, 100):
        hub = make_hub(window_events=size)
        hub.publish([draft("a", data="a"), draft("secret", data="secret", private=True)])
        hub.publish([draft("b", "a", data="b")])
        publish(hub, "a2", topic="a")
        publish(hub, "b2", topic="b")
        publish(hub, "secret 2", topic="secret", private=True)
        subscriber = Subscriber(subscribe(hub, *topics, granted=granted, cursor="same"))
        publish(hub, "end", topic=next(iter(topics)))
        assert subscriber.await_data(1 + len(missed or ()))[: len(missed or ())] == (missed or [])
        reset = "hub.reset" in {it.type for it in subscriber.messages()}
        assert reset is (missed is None)
        subscriber.leave()
        hub.stop()


class CountingBroker(MemoryBroker):
    """Counts what an own id costs."""

    lookups = 0
    reads = 0

    def positions_of(self, *args: Any) -> list[EventId]:
        self.lookups += 1
        return super().positions_of(*args)

    def read_at(self, *args: Any) -> list[Event]:
        self.reads += 1
        return super().read_at(*args)


def test_an_own_id_of_many_private_events_costs_few_reads() -> None:
    broker = CountingBroker(100_000, 1 << 30, 3600)
    hub = make_hub(broker, window_events=5)
    topics = [f"t/{number}" for number in range(3000)]
    until_read(hub, hub.publish([draft(it, data="x", private=True) for it in topics]))
    stranger = Subscriber(subscribe(hub, "*", cursor="same"))
    assert broker.lookups <= 3
    assert broker.reads <= 15
    granted = Subscriber(subscribe(hub, "*", granted="t/2999", cursor="same"))
    publish(hub, "end", topic="a")
    assert [it.await_data(1) for it in (stranger, granted)] == [["end"], ["end"]]
    resets = ["hub.reset" in {it.type for it in each.messages()} for each in (stranger, granted)]
    assert resets == [True, False]
    for each in (stranger, granted):
        each.leave()
    hub.stop()
