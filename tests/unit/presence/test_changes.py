"""Presence within one process: changes, notices and listings, in parts."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import gevent
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support import hostile_input
from support.hostile_input import LONG, WATCHED
from support.hub import Subscriber, alive, publish, subscribe
from support.waiting import PATIENCE
from webapp.auth.authorizer import Grant
from webapp.brokers.memory_presence import MemoryPresenceStore
from webapp.brokers.presence_base import JOINED, LEFT, MAX_NOTICES
from webapp.core.events import HubDraft
from webapp.core.transient_event import TransientEvent
from webapp.errors import BadRequest
from webapp.hub.reads.start import Start
from webapp.presence.changes import Changes
from webapp.presence.service import Presence
from webapp.scheduling import RequestSlice
from webapp.views.presence import _listing

if TYPE_CHECKING:
    from webapp.hub.hub import Hub


def watch(hub: Hub) -> Subscriber:
    grant = Grant(subscribe=frozenset({"*"}))
    return Subscriber(hub.subscribe(frozenset({WATCHED}), grant, Start()))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(hostile_input.notices | hostile_input.rows, max_size=5),
    st.lists(hostile_input.texts, min_size=1, max_size=3),
    hostile_input.texts,
    hostile_input.values,
)
def test_one_hub_survives_every_notice_and_claim(
    hub: Hub,
    store: MemoryPresenceStore,
    notices: list[str],
    topics: list[str],
    sub: str,
    payload: Any,
) -> None:
    watcher, guests = watch(hub), list[Subscriber]()
    for notice in notices:
        store.broadcast(notice)
    grant = Grant(subject=sub, payload=payload, token_id=sub)
    with suppress(BadRequest):  # too many variables
        guests.append(Subscriber(hub.subscribe(frozenset(topics), grant, Start())))
    good = Subscriber(subscribe(hub, "good"))
    gevent.sleep(0.001)
    publish(hub, "one", "two", topic="good")
    assert good.await_data(2) == ["one", "two"]
    with gevent.Timeout(PATIENCE):
        while good.subscription.name not in "".join(watcher.data()):
            gevent.sleep(0.001)
    hub.flush_metrics()
    for subscriber in (watcher, good, *guests):
        subscriber.leave()
    assert alive(hub)


def test_an_announcement_is_json_whatever_the_token_holds(hub: Hub) -> None:
    watcher = watch(hub)
    gevent.sleep(0.01)
    payload = {"a": [float("nan"), 1], "b": "\ud83d"}
    guest = Subscriber(hub.subscribe(frozenset({LONG}), Grant(payload=payload), Start()))
    with gevent.Timeout(PATIENCE):
        while guest.subscription.name not in "".join(watcher.data()):
            gevent.sleep(0.001)
    announced = json.loads(watcher.data()[-1], parse_constant=pytest.fail)
    assert announced["id"].startswith(hostile_input.path_of(LONG))
    assert announced["payload"] == {"a": [None, 1], "b": "\ud83d"}
    guest.leave()
    watcher.leave()
    assert alive(hub)


def test_many_announcements_are_delivered_in_parts_while_others_run(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webapp.scheduling._SLICE_S", 0.0002)
    watcher = watch(hub)
    gevent.sleep(0.01)
    topic, sizes, turns = hostile_input.path_of("t"), list[int](), 0

    def run() -> None:
        nonlocal turns
        while True:
            gevent.sleep(0)
            turns += 1

    other = gevent.spawn(run)
    write = hub.fanout.write

    def noted(feed: Any, subscriber: Any, payload: Any) -> None:
        sizes.append(len(payload.raw))
        write(feed, subscriber, payload)

    monkeypatch.setattr(hub.fanout, "write", noted)
    made = (
        TransientEvent(number, HubDraft(topics=(topic,), data="x" * 200, private=True))
        for number in range(1000, 6000)  # after those of presence itself
    )
    hub.transient.deliver(made)
    other.kill()
    assert len([it for it in watcher.await_data(5001) if it.startswith("x")]) == 5000
    assert max(sizes) < 100 << 10
    assert turns > 50


def test_those_who_left_are_written_down_before_those_who_come() -> None:
    changes = Changes()
    changes.join("early", "", "text")
    taken = changes.next_batch()
    changes.confirm(taken)
    for number in range(3000):
        changes.join(str(number), "", "x" * 1000)
    changes.leave("early")
    changes.leave("7")  # it was never written down, and need not be now
    taken = changes.next_batch()
    assert next(iter(taken.items())) == ("early", None)
    assert "7" not in taken
    changes.restore(taken)
    assert changes.next_batch()["early"] is None


def test_one_address_leaves_room_for_others() -> None:
    changes = Changes()
    for number in range(10):
        changes.join(f"a{number}", "a", "x" * (1 << 20))
    changes.join("b", "b", "x" * (1 << 20))
    names = set[str]()
    while taken := changes.next_batch():
        names |= taken.keys()
    assert names == {"b", *(f"a{number}" for number in range(6))}
    for number in range(10):
        changes.leave(f"a{number}")
    changes.join("c", "a", "x")
    assert "c" in changes.next_batch()


def test_notices_are_read_in_parts_and_none_is_lost() -> None:
    store = MemoryPresenceStore()
    notices = [f"{sign}{number} {'x' * 3000}" for number in range(100) for sign in (JOINED, LEFT)]
    for notice in notices:
        store.broadcast(notice)
    found, upto, parts = list[str](), 0, 0
    while (news := store.notices_after(upto)).notices:
        assert news.complete
        assert sum(map(len, news.notices)) < 100 << 10
        found, upto, parts = found + news.notices, news.last_number, parts + 1
    assert found == notices
    assert parts > 5


def test_the_first_change_after_missed_ones_is_announced(
    hub: Hub, store: MemoryPresenceStore
) -> None:
    watcher = watch(hub)
    with gevent.Timeout(PATIENCE):
        while not watcher.data():
            gevent.sleep(0.001)
    for _ in range(MAX_NOTICES + 1):
        store.broadcast("![]")
    with gevent.Timeout(PATIENCE):
        while "hub.reset" not in [it.type for it in watcher.messages()]:
            gevent.sleep(0.001)
    guest = Subscriber(subscribe(hub, "t"))
    with gevent.Timeout(PATIENCE):
        while guest.subscription.name not in "".join(watcher.data()):
            gevent.sleep(0.001)


def test_a_damaged_row_of_a_subscriber_is_listed_for_no_topic(
    hub: Hub, store: MemoryPresenceStore
) -> None:
    store.heartbeat({"a": "{", "b": '{"topics": ["t"], "payload": null}'})
    presence = Presence(hub, store, lease=0.6)
    assert [name for name, _ in presence.subscribers("t")] == ["b"]


def test_a_listing_is_made_in_parts_without_what_is_damaged() -> None:
    topics = [f"/t/{number:03}/{'/' * 50}" for number in range(100)]
    text = json.dumps({"topics": topics, "payload": None})
    found = [*[(f"urn:uuid:{number}", text) for number in range(30)], ("urn:uuid:x", "{")]
    parts = list(_listing({"id": "all"}, found, None, RequestSlice()))
    listing = json.loads("".join(parts))
    assert len(listing["subscriptions"]) == 3000
    assert len(parts) > 10
    assert max(map(len, parts)) < 128 << 10
