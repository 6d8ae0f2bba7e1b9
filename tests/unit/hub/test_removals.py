"""What subscribers of a process are sent while events are removed."""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import gevent
import pytest

from support.hub import Subscriber, publish, subscribe
from webapp.core.events import EventId
from webapp.core.removals import Removal
from webapp.errors import ServiceUnavailable
from webapp.hub.deletion import delete
from webapp.hub.delivery.removals import AFTER_ALL, Removals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from webapp.core.events import Draft
    from webapp.hub.hub import Hub

BEFORE_ALL = EventId(0, 0)


@pytest.mark.parametrize("seed", range(4))
def test_nothing_removed_is_sent_after_the_answer_and_nothing_else_is_lost(
    hub: Hub, seed: int
) -> None:
    chance, removed, kept = random.Random(seed), set[str](), list[str]()
    readers = [Subscriber(subscribe(hub, "a", "b", cursor="earliest")) for _ in range(3)]
    for round_ in range(60):
        topic = chance.choice("ab")
        events = publish(
            hub, *(f"{round_}.{n}" for n in range(chance.randrange(1, 5))), topic=topic
        )
        kept += [event.draft.data for event in events]
        if chance.random() < 0.3:
            gevent.sleep(0)
        if chance.random() < 0.4:
            event = chance.choice(events)
            assert delete(hub, topic, str(event.position)) == 1
            removed.add(event.draft.data)
            late = Subscriber(subscribe(hub, "a", "b", cursor="earliest"))
            wanted = [it for it in kept if it not in removed]
            assert late.await_data(len(wanted)) == wanted
            late.leave()
    for reader in readers:
        left = [it for it in kept if it not in removed]
        with gevent.Timeout(10):
            while not set(left) <= set(reader.data()):
                gevent.sleep(0.001)
        found = reader.data()
        assert len(found) == len(set(found))
        assert [it for it in found if it not in removed] == left
        reader.leave()


def test_a_topic_is_removed_from_the_window_and_its_index(hub: Hub) -> None:
    publish(hub, *map(str, range(2500)), topic="a")
    [other] = publish(hub, "other", topic="b")
    assert delete(hub, "a", None) == 2500
    assert [it.draft.data for it in hub.window.after(BEFORE_ALL)] == ["other"]
    assert hub.window.before(AFTER_ALL, 10) == [other]
    assert hub.window.before_with(AFTER_ALL, 10, ["a"]) == []
    assert delete(hub, "a", None) == 0


def test_the_events_of_a_topic_are_authorized_until_the_client_disconnects(hub: Hub) -> None:
    publish(hub, *map(str, range(2500)), topic="a")
    left: list[Callable[[], None]] = []

    class Socket:
        @contextmanager
        def on_hangup(self, hung_up: Callable[[], None]) -> Iterator[None]:
            left.append(hung_up)
            yield

        def answer_last(self) -> None:
            left.clear()

    seen: list[Draft] = []

    def authorize(draft: Draft) -> None:
        seen.append(draft)
        if len(seen) == 5 and left:
            left[0]()

    socket: Any = Socket()
    with pytest.raises(ServiceUnavailable):
        delete(hub, "a", None, authorize, client="192.0.2.1", socket=socket)
    assert len(seen) == 5
    assert delete(hub, "a", None, authorize, client="192.0.2.1") == 2500
    assert len(seen) == 2505


def test_who_holds_events_learns_what_was_removed_meanwhile() -> None:
    removals = Removals()
    removal = Removal("a", EventId(5, 0), EventId(7, 0))
    before = removals.count
    removals.add(removal)
    assert removals.touch(before, EventId(1, 0), EventId(5, 0))
    assert not removals.touch(before, EventId(7, 0), EventId(9, 0))
    assert not removals.touch(removals.count, EventId(1, 0), EventId(9, 0))
    for _ in range(2000):
        removals.add(removal)
    assert removals.touch(before, EventId(7, 0), EventId(9, 0))
    with pytest.raises(BrokenPipeError):
        removals.without(before, [])
