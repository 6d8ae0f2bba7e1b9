"""The window: the newest run of events within its bounds."""

from __future__ import annotations

import random
import tracemalloc
from typing import TYPE_CHECKING

import gevent
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.events import event
from support.hub import Subscriber, make_hub, publish, subscribe
from support.waiting import PATIENCE
from webapp.core import window as window_module
from webapp.core.events import Draft, Event, EventId
from webapp.core.removals import Removal
from webapp.core.topic_index import TopicIndex
from webapp.core.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable


@given(st.lists(st.integers(1, 50), max_size=60), st.integers(1, 10), st.integers(20, 2000))
def test_a_window_is_the_newest_run_within_its_bounds(
    sizes: list[int], max_events: int, max_bytes: int
) -> None:
    window = Window(EventId(0, 0), max_events, max_bytes)
    model: list[Event] = []
    for number, size in enumerate(sizes, 1):
        model.append(event(number, size))
        window.append([model[-1]])
        window.trim()
        kept = window.after(window.floor)
        assert kept == model[-len(kept) :]
        assert len(kept) <= max_events
        assert len(kept) == 1 or sum(len(e.frame) for e in kept) <= max_bytes
        assert window.head == model[-1].position
        for e in kept:
            assert window.holds(e.position)
            assert window.after(e.position) == [k for k in kept if k.position > e.position]
            assert window.before(e.position, 3) == [k for k in kept if k.position < e.position][-3:]
            assert len(window.after(window.floor, 1)) == 1


def test_a_window_counts_the_memory_of_many_topics() -> None:
    topics = tuple(f"{number:01000}" for number in range(100))
    window = Window(EventId(0, 0), 1000, 1 << 20)
    window.append([Event(EventId(n, 0), Draft(topics=topics)) for n in range(1, 20)])
    window.trim()
    assert len(window) == 8
    assert len(window.after(window.floor, 350_000)) == 4  # an envelope would name them all


def test_a_window_counts_the_memory_of_its_index() -> None:
    window = Window(EventId(0, 0), 1000, 1 << 20)
    tracemalloc.start()
    for number in range(1, 21):
        topics = tuple(f"{number}/{topic}" for topic in range(1000))
        window.append([Event(EventId(number, 0), Draft(topics=topics))])
    assert names(window)[:2] == ["1/0", "1/1"]
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0.8 < window.fraction_of(window.after(window.floor)) * window.max_bytes / taken < 1.5


@pytest.mark.parametrize("seed", range(8))
def test_reads_by_topic_are_exact_whatever_the_index_has(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window_module, "_FEW_EVENTS", 4)
    monkeypatch.setattr(window_module, "_INDEXED_EVENTS", 3)
    chance, window, kept = random.Random(seed), Window(EventId(1, 0), 40, 1 << 30), list[Event]()
    update = window.update_index()
    for number in range(2, 1500):
        topics = tuple(chance.sample("abcdef", chance.randint(1, 3)))
        draft = Draft(topics=topics, private=chance.random() < 0.5)
        kept.append(Event(EventId(number, 0), draft))
        window.append(kept[-1:])
        if chance.random() < 0.4:
            window.trim(kept[chance.randrange(len(kept))].position)
        if chance.random() < 0.02:
            window.drop_before(kept[chance.randrange(len(kept))].position)
        kept = kept[-len(window) :]
        if chance.random() < 0.2:  # a step of a read that others interrupt
            update = window.update_index() if next(update, True) else update
        if chance.random() < 0.2:
            check_reads(window, kept, chance)


def check_reads(window: Window, kept: list[Event], chance: random.Random) -> None:
    topics, position = chance.sample("abcdef", 2), chance.choice(kept).position
    having = [it for it in kept if not {*topics}.isdisjoint(it.draft.topics)]
    found = window.after_with(position, 1 << 20, topics)
    assert found == ([it for it in having if it.position > position], window.head)
    older = [it for it in having if it.position < position]
    assert window.before_with(position, 3, topics) == older[-3:]
    for public in (False, True):
        newest = [
            it.position
            for it in kept
            if topics[0] in it.draft.topics
            and it.position < position
            and not (public and it.draft.private)
        ]
        assert window.newest(topics[0], position, public=public) == max(newest, default=None)


def test_events_are_indexed_only_when_a_read_by_topic_needs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    window, indexed = Window(EventId(0, 0), 1000, 1 << 30), list[Event]()
    monkeypatch.setattr(TopicIndex, "add", counted(TopicIndex.add, indexed))
    for number in range(1, 3000):
        window.append([event(number, 1)])
        window.trim()
    recent = window.before(window.head, 99)[0].position
    assert window.after_with(recent, 1 << 20, ["t"])[0] == window.after(recent)
    assert not indexed
    window.after_with(window.floor, 1 << 20, ["t"])
    window.before_with(window.head, 1, ["t"])
    assert indexed == window.after(window.floor)


def counted(
    add: Callable[[TopicIndex, Event], None], indexed: list[Event]
) -> Callable[[TopicIndex, Event], None]:
    def note(index: TopicIndex, added: Event) -> None:
        indexed.append(added)
        add(index, added)

    return note


def test_a_large_window_is_indexed_in_short_steps() -> None:
    window = Window(EventId(0, 0), 10_000, 1 << 30)
    window.append([event(number, 1) for number in range(1, 3001)])
    assert len(list(window.update_index())) >= 10
    assert list(window.update_index()) == []


def test_the_names_of_topics_are_in_order_however_they_come_and_go() -> None:
    chance, window = random.Random(1), Window(EventId(0, 0), 30, 1 << 20)
    for number in range(1, 3000):
        topics = tuple(chance.sample([f"{name}" for name in range(200)], 3))
        window.append([Event(EventId(number, 0), Draft(topics=topics))])
        window.trim()
        if chance.random() < 0.3:
            kept = {topic for it in window.after(window.floor) for topic in it.draft.topics}
            assert names(window) == sorted(kept)


def names(window: Window) -> list[str]:
    for _ in window.sort_names():
        pass
    return window.names("", "", 100_000).names


def test_what_is_too_old_is_in_no_window_either() -> None:
    hub = make_hub(history_age=0.4, heartbeat=0.05)
    [old] = publish(hub, "old")
    subscriber = Subscriber(subscribe(hub, "quiet"))
    with gevent.Timeout(PATIENCE):
        while hub.window.head < old.position:
            gevent.sleep(0.001)
        while len(hub.window):
            gevent.sleep(0.01)
    late = Subscriber(subscribe(hub, last=5))
    gevent.sleep(0.05)
    assert late.data() == []
    for each in (subscriber, late):
        each.leave()
    hub.stop()


def test_a_removal_looks_at_the_events_of_its_topic_only() -> None:
    window = Window(EventId(0, 0), 20_000, 1 << 30)
    events = [
        Event(EventId(n, 0), Draft(topics=("a" if n % 100 else "b",), data=str(n)))
        for n in range(1, 10_001)
    ]
    window.append(events)
    for _ in window.update_index():
        pass
    looked_at = list[Event]()

    class Removing(Removal):
        def hides(self, event: Event) -> bool:
            looked_at.append(event)
            return super().hides(event)

    assert sum(window.remove(Removing("b", EventId(0, 0), EventId(9_999, 0)))) == 99
    assert len(looked_at) == 100
    assert [it.draft.data for it in window.after_with(EventId(0, 0), 1 << 20, ["b"])[0]] == [
        "10000"
    ]
    assert sum(window.remove(Removal("a", EventId(0, 0), EventId(20_000, 0)))) == 9_900
    assert len(window.after(EventId(0, 0))) == 1


def test_an_event_that_is_removed_twice_counts_once_and_keeps_its_digest() -> None:
    window = Window(EventId(0, 0), 100, 1 << 20)
    window.append([Event(EventId(1, 0), Draft(topics=("a",), data="1", id="own"))])
    removal = Removal("a", EventId(0, 0), EventId(9, 0))
    assert sum(window.remove(removal)) == 1
    left = window.find("a", "own")
    assert sum(window.remove(removal)) == 0
    assert window.find("a", "own") is left
