"""The window: the newest run of events within its bounds."""

from __future__ import annotations

import random
import tracemalloc

import gevent
from hypothesis import given
from hypothesis import strategies as st

from support.events import event
from support.hub import Subscriber, make_hub, publish, subscribe
from support.waiting import PATIENCE
from webapp.core.events import Draft, Event, EventId
from webapp.core.window import Window


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
    publish(hub, "old")
    subscriber = Subscriber(subscribe(hub, "quiet"))
    gevent.sleep(0.01)
    assert len(hub.window) == 1
    with gevent.Timeout(PATIENCE):
        while len(hub.window):
            gevent.sleep(0.01)
    late = Subscriber(subscribe(hub, last=5))
    gevent.sleep(0.05)
    assert late.data() == []
    for each in (subscriber, late):
        each.leave()
    hub.stop()
