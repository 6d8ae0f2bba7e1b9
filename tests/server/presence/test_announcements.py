"""Events about subscribers that come and go."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import gevent
import pytest

from support.hub import Subscriber, make_hub
from support.presence import ALL, EVENTS, PATH, bearer, list_path, next_documents, subscriber_name
from support.waiting import PATIENCE, until
from webapp.auth.authorizer import Grant
from webapp.core.events import Draft, Event, EventId
from webapp.core.sse import encode
from webapp.hub.reads.start import Start

if TYPE_CHECKING:
    from support.server import Server

pytestmark = pytest.mark.slow


def test_only_granted_subscribers_see_who_comes_and_goes(hub: Server, topic: str) -> None:
    about = list_path(topic) + "{/subscriber}"
    with (
        hub.listen(headers=bearer(subscribe=[EVENTS]), topic=[EVENTS, topic]) as watcher,
        hub.listen(topic=[EVENTS, topic]) as anonymous,
        hub.listen(headers=bearer(subscribe=["x", about + "x"]), topic=[about, topic]) as other,
    ):
        names = [subscriber_name(watcher), subscriber_name(anonymous), subscriber_name(other)]
        seen = next_documents(watcher, 3, topic)
        assert {it["subscriber"] for it in seen} == set(names)
        assert all(it["active"] for it in seen)
        with hub.listen(headers=bearer(payload=["p"]), topic=topic) as guest:
            subscriber = subscriber_name(guest)
            [came] = next_documents(watcher, 1, topic)
        [left] = next_documents(watcher, 1, topic)
        expected = {
            "@context": "https://mercure.rocks/",
            "id": list_path(topic, subscriber),
            "type": "Subscription",
            "topic": topic,
            "subscriber": subscriber,
            "payload": ["p"],
        }
        assert came == {**expected, "active": True}
        assert left == {**expected, "active": False}
        hub.http.post("/events", data={"topic": topic, "data": "last"}, headers=ALL)
        assert anonymous.take(1) == other.take(1) == ["last"]
        until(lambda: watcher.take(1) == ["last"], "the watcher gets that, too")


def test_such_an_event_has_no_id_and_does_not_move_the_cursor(hub: Server, topic: str) -> None:
    with hub.listen(headers=ALL, topic=[list_path(topic) + "{/subscriber}", topic]) as stream:
        opened = stream.next()
        event = stream.messages(1)[0]
        assert (event.type, event.id) == ("message", opened.id)
        frame = stream.raw.split(b"\n\n")[1]
        assert frame.startswith(b"data: {")
        assert b"\nid:" not in frame


def test_a_stream_with_envelopes_gets_presence_in_one_without_an_id(
    hub: Server, topic: str
) -> None:
    asked = {"topic": list_path(topic) + "{/subscriber}", "envelope": "1"}
    with hub.listen(f"/events?{urlencode(asked)}", bearer(subscribe=[EVENTS])) as watcher:
        position = watcher.next().id
        with hub.listen(topic=topic) as guest:
            subscriber = subscriber_name(guest)
            [came] = watcher.messages(1)
    envelope = json.loads(came.data)
    about = json.loads(envelope["data"])
    assert (about["subscriber"], about["active"], came.id) == (subscriber, True, position)
    assert (envelope["id"], envelope["topic"]) == (None, list_path(topic, subscriber))
    assert (envelope["private"], envelope["topics"]) == (True, [envelope["topic"]])
    assert abs(envelope["time"] / 1000 - time.time()) < PATIENCE


def test_a_watcher_that_continues_after_a_cursor_lists_again(hub: Server, topic: str) -> None:
    listed = hub.http.get(PATH, headers=ALL).json()["lastEventID"]
    for cursor in (listed, "earliest"):
        watched = f"{topic}-{cursor}"
        about = list_path(watched) + "{/subscriber}"
        with hub.listen(headers=ALL, topic=about, last_event_id=cursor) as watcher:
            assert [watcher.next().type for _ in range(2)] == ["hub.open", "hub.reset"]
            assert b'{"reason": "presence"}' in watcher.raw
            with hub.listen(topic=watched) as guest:
                name = subscriber_name(guest)
                assert next_documents(watcher, 1)[0]["subscriber"] == name
            assert watcher.raw.count(b"hub.reset") == 1


@pytest.mark.parametrize("path", ["/events", "/.well-known/mercure"])
def test_without_control_events_a_header_says_that_presence_was_missed(
    hub: Server, topic: str, path: str
) -> None:
    cursor = hub.http.post("/events", data={"topic": topic, "data": "x"}, headers=ALL).text.strip()
    until(lambda: hub.http.get(PATH, headers=ALL).json()["lastEventID"] >= cursor, "it is read")
    quiet = f"{topic}-quiet"
    for topics, expected in (([EVENTS, quiet], "earliest"), ([quiet], cursor)):
        query = urlencode({"topic": topics, "control": 0, "last_event_id": cursor}, doseq=True)
        with hub.listen(f"{path}?{query}", ALL) as stream:
            assert stream.headers["Last-Event-ID"] == expected
            hub.http.post("/events", data={"topic": quiet, "data": "y"}, headers=ALL)
            while stream.take(1) != ["y"]:  # it may be sent presence events before
                pass


def announcement(number: int) -> Event:
    topics = (f"{PATH}/t/{number}",)
    event = Event(EventId(0, number), Draft(topics=topics, data=str(number), private=True))
    event.frame = encode(event.draft.data)
    return event


@pytest.mark.parametrize("steps", [(1,), (3, 1, 7), (40,)], ids=str)
def test_a_busy_subscriber_gets_each_change_once_and_in_order(steps: tuple[int]) -> None:
    hub = make_hub()
    hub.start()
    grant = Grant(subscribe=frozenset({"*"}))
    subscribers = [
        Subscriber(hub.subscribe(frozenset({EVENTS, "t"}), grant, Start())) for _ in range(3)
    ]
    deaf = Subscriber(hub.subscribe(frozenset({EVENTS, "t"}), Grant(), Start()))
    gevent.sleep(0.01)
    number = 0
    for step in steps * 20:
        events = [announcement(it) for it in range(number + 1, number + step + 1)]
        number += step
        hub.transient.deliver(events)
        hub.publish([Draft(topics=("t",), data=f"published {number}")])
        if number % 3 == 0:
            gevent.sleep(0)  # else they have not run since, and are not parked
    for subscriber in subscribers:
        data = subscriber.await_data(number + len(steps) * 20)
        assert [it for it in data if it.isdigit()] == [str(it) for it in range(1, number + 1)]
        assert len([it for it in data if not it.isdigit()]) == len(steps) * 20
    assert not [it for it in deaf.data() if it.isdigit()]
    hub.stop()


def test_a_subscriber_that_missed_changes_gets_a_reset(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("webapp.scheduling._SLICE_S", PATIENCE)
    hub = make_hub()
    hub.start()
    hub.transient.window.max_events = 5
    grant = Grant(subscribe=frozenset({"*"}))
    subscriber = Subscriber(hub.subscribe(frozenset({EVENTS}), grant, Start()))
    with gevent.Timeout(PATIENCE):
        while not subscriber.subscription.feed.parked:
            gevent.sleep(0.01)
    for number in range(1, 21):
        hub.transient.deliver([announcement(number)])  # the subscriber does not run in between
    with gevent.Timeout(PATIENCE):
        while "hub.reset" not in [it.type for it in subscriber.messages()]:
            gevent.sleep(0.01)
    assert [(it.type, it.data) for it in subscriber.messages()[1:]] == [
        ("message", "1"),
        ("hub.reset", '{"reason": "presence"}'),
    ]
    hub.transient.reset()
    with gevent.Timeout(PATIENCE):
        while [it.type for it in subscriber.messages()].count("hub.reset") < 2:
            gevent.sleep(0.01)
    hub.transient.deliver([announcement(22)])
    assert subscriber.await_data(2) == ["1", "22"]
    hub.stop()
