"""Feeds: subscribers of the same topics share frames."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import gevent

from support.hub import Subscriber, publish, subscribe
from webapp.auth.authorizer import Grant
from webapp.core import sse
from webapp.core.events import Draft, Event, EventId
from webapp.hub.delivery.feeds import PLAIN, Feed, Form
from webapp.hub.reads.start import Start

if TYPE_CHECKING:
    from webapp.hub.hub import Hub


def test_subscribers_of_the_same_topics_share_one_feed(hub: Hub) -> None:
    subscribers = [Subscriber(subscribe(hub, "a", "b")), Subscriber(subscribe(hub, "b", "a"))]
    subscribers += [Subscriber(subscribe(hub, "a"))]
    gevent.sleep(0.01)
    assert len(hub._feeds) == 2
    for subscriber in subscribers:
        subscriber.leave()


def test_feeds_that_see_the_same_topics_share_an_envelope() -> None:
    draft = Draft(topics=("a", "b"), data="x", private=True)
    event, nobody = Event(EventId(1, 0), draft), frozenset[str]()
    made: dict[EventId, bytes] = {}
    feeds = [
        Feed(frozenset({"*"}), granted, Form(envelope=envelope))
        for envelope in (False, True)
        for granted in (nobody | {"*"}, nobody | {"a", "b"}, nobody | {"b", "other"})
    ]
    *plain, one, same, part = [feed.render([event], made) for feed in feeds]
    assert set(plain) == {event.frame}
    assert (one, list(made.values())) == (same, [one])
    [whole, partly] = [json.loads(next(sse.decode([frame])).data) for frame in (one, part)]
    assert (whole["topic"], whole["topics"]) == ("a", ["a", "b"])
    assert (partly["topic"], partly["topics"]) == ("b", ["b"])


def test_each_form_of_events_has_a_feed(hub: Hub) -> None:
    grant, topics = Grant(), frozenset({"t"})
    forms = [Form(envelope=True), Form(envelope=True), PLAIN, Form(control=False)]
    subscribers = [Subscriber(hub.subscribe(topics, grant, Start(), form=it)) for it in forms]
    gevent.sleep(0.01)
    assert len(hub._feeds) == 3
    [event] = publish(hub, "x")
    about = f'"time":{event.position.ms},"private":false,"data":"x"'
    text = f'{{"id":"{event.id}","topic":"t","topics":["t"],"type":null,{about}}}'
    assert [subscriber.await_data(1) for subscriber in subscribers[:2]] == [[text], [text]]
    assert [subscriber.await_data(1) for subscriber in subscribers[2:]] == [["x"], ["x"]]
    for subscriber in subscribers:
        subscriber.leave()
    assert not list(hub._feeds)
