"""Feeds with URI templates: they wait for others, and others never wait for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gevent
import pytest
from gevent.event import Event as Signal

from support.hub import Subscriber, make_hub, publish, subscribe
from support.waiting import PATIENCE
from webapp import scheduling
from webapp.auth.authorizer import Grant
from webapp.brokers.base import Gap
from webapp.core import uri_template
from webapp.core.events import Draft, EventId
from webapp.hub.delivery.feed_index import FeedIndex
from webapp.hub.delivery.feeds import Feed
from webapp.hub.delivery.late_feeds import LateFeeds
from webapp.hub.reads.start import Start

if TYPE_CHECKING:
    from collections.abc import Iterator

    from webapp.hub.hub import Hub

TEMPLATES = [f"/{{a}}/{{b*}}{'~' * number}" for number in range(25)]


@pytest.fixture(name="small")
def _small() -> Iterator[Hub]:
    hub = make_hub(window_events=10)
    hub.start()
    yield hub
    hub.stop()


@pytest.fixture(name="unmatched")
def _unmatched(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub whose late feeds stay late."""
    hub = make_hub(window_events=10)
    monkeypatch.setattr(hub.late_feeds, "run", Signal().wait)
    hub.start()
    yield hub
    hub.stop()


def parked(hub: Hub, *topics: str) -> Subscriber:
    subscriber = Subscriber(subscribe(hub, *topics))
    with gevent.Timeout(PATIENCE):
        while not subscriber.subscription.parked:
            gevent.sleep(0.001)
    return subscriber


def until_on_time(hub: Hub) -> None:
    with gevent.Timeout(PATIENCE):
        while any(feed.late_from for feed in hub._feeds):
            gevent.sleep(0.001)


def note_matches(monkeypatch: pytest.MonkeyPatch, exact: Subscriber) -> list[bool]:
    """Note for each match of a template from now on whether `exact` has an event by then."""
    matched: list[bool] = []
    match = uri_template.matches_rest

    def matches_rest(*about: Any) -> bool:
        matched.append(bool(exact.data()))
        return match(*about)

    monkeypatch.setattr("webapp.core.uri_template.matches_rest", matches_rest)
    return matched


def test_a_subscriber_of_a_topic_is_sent_an_event_before_any_template_is_matched(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscribers = [parked(hub, *TEMPLATES, f"/{number}") for number in range(3)]
    exact = parked(hub, "t")
    matched = note_matches(monkeypatch, exact)
    topics = [f"/u/{number}/{'~' * (number % 25)}" for number in range(200)]
    hub.publish([Draft(topics=(*topics, "t", "/u/0"), data="many")])
    assert exact.await_data(1) == ["many"]
    assert all(matched)
    for subscriber in subscribers:
        assert subscriber.await_data(1) == ["many"]
    until_on_time(hub)
    assert publish(hub, "next", topic="/x/y")
    for subscriber in subscribers:
        assert subscriber.await_data(2) == ["many", "next"]
        subscriber.leave()
    exact.leave()


def test_an_event_is_sent_before_the_templates_of_a_large_grant_are_matched(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    grant = frozenset(f"/{{a}}/{{b*}}{'~' * number}" for number in range(26))
    dear = Subscriber(hub.subscribe(frozenset({"*"}), Grant(subscribe=grant), Start()))
    exact = Subscriber(subscribe(hub, "t", granted="t"))
    with gevent.Timeout(PATIENCE):
        while not (dear.subscription.parked and exact.subscription.parked):
            gevent.sleep(0.001)
    matched = note_matches(monkeypatch, exact)
    topics = tuple(f"/u/{number}/{'~' * (number % 25)}" for number in range(20))
    hub.publish([Draft(topics=(*topics, "t", "/u/0"), data="many", private=True)])
    assert dear.await_data(1) == exact.await_data(1) == ["many"]
    assert matched
    assert all(matched)
    dear.leave()
    exact.leave()


def test_many_topics_make_only_the_feeds_late_that_match_them_one_by_one(
    unmatched: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "webapp.hub.delivery.late_feeds._BATCH_S", PATIENCE
    )  # the work counts, not the time
    dear, cheap = parked(unmatched, *TEMPLATES), parked(unmatched, "/{a}")
    topics = tuple(f"/{number}" for number in range(100))
    events = unmatched.publish(
        [Draft(topics=("/1/2",)), Draft(topics=topics), Draft(topics=("/1/2", "/1"))]
    )
    assert len(cheap.await_data(2)) == 2
    # Its stream may read the last event itself, because the first one has woken it.
    assert dear.await_data(1) in ([""], ["", ""])
    assert cheap.subscription.feed.late_from is None
    assert dear.subscription.feed.late_from == events[0].position
    unmatched.fanout.wake(dear.subscription.feed, dear.subscription)
    assert len(dear.await_data(2)) == 2
    dear.leave()
    cheap.leave()


def test_a_late_feed_that_the_window_has_left_behind_reads_the_log(
    unmatched: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscriber = parked(unmatched, "{a}")
    monkeypatch.setattr("webapp.hub.delivery.late_feeds._BATCH_S", -1)
    numbers = [str(number) for number in range(50)]
    last = publish(unmatched, *numbers)[-1]
    with gevent.Timeout(PATIENCE):  # the follower does not wait for it
        while unmatched.window.floor < last.position and len(unmatched.window) > 10:
            gevent.sleep(0.001)
        while unmatched.fanout.dispatched_up_to < last.position:
            gevent.sleep(0.001)
    assert subscriber.data() == []
    task = gevent.spawn(LateFeeds.run, unmatched.late_feeds)
    assert subscriber.await_data(50) == numbers
    until_on_time(unmatched)
    task.kill()
    subscriber.leave()


def test_after_a_gap_in_the_log_no_feed_is_late(
    unmatched: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscriber = parked(unmatched, "{a}")
    monkeypatch.setattr("webapp.hub.delivery.late_feeds._BATCH_S", -1)
    publish(unmatched, "x")
    with gevent.Timeout(PATIENCE):
        while not subscriber.subscription.feed.late_from:
            gevent.sleep(0.001)
    unmatched.dispatcher._jump_gap(Gap(EventId(1, 0), "unknown"))
    assert subscriber.subscription.feed.late_from is None
    assert not unmatched.late_feeds._since
    with gevent.Timeout(PATIENCE):
        while "hub.reset" not in {message.type for message in subscriber.messages()}:
            gevent.sleep(0.001)
    subscriber.leave()


def test_an_error_makes_no_feed_late_for_ever(small: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    subscriber = parked(small, "{a}")
    monkeypatch.setattr("webapp.hub.delivery.late_feeds._BATCH_S", -1)
    after = small.window.after

    def broken(position: EventId, max_bytes: int) -> Any:
        if max_bytes == 77:
            monkeypatch.setattr(small.window, "after", after)
            raise RuntimeError
        return after(position, max_bytes)

    monkeypatch.setattr("webapp.hub.delivery.late_feeds._PAGE_BYTES", 77)
    monkeypatch.setattr(small.window, "after", broken)
    publish(small, "x", "y")
    assert subscriber.await_data(2) == ["x", "y"]
    until_on_time(small)
    subscriber.leave()


def test_a_topic_is_matched_against_the_templates_that_begin_as_it_does() -> None:
    index, feeds = FeedIndex(), []
    for number in range(500):
        texts = frozenset({f"/users/{number}/{{+rest}}", f"/exact/{number}"})
        feeds.append(index.acquire(Feed(texts, frozenset())))
    long = "/" + "x" * 99
    other = index.acquire(Feed(frozenset({long + "{a}"}), frozenset()))
    wide = index.acquire(Feed(frozenset({"{a}", "*"}), frozenset()))
    candidates = index.matched_last.candidates
    assert candidates(["/users/7/x"]) == {feeds[7]}
    assert candidates(["/exact/8", "none", "/users/7/"]) == {feeds[7], feeds[8]}
    assert candidates([long, "/"]) == {other}
    assert index.candidates(["/users/7/x", "/exact/8"]) == {wide}
    for feed in (*feeds, other, wide):
        index.release(feed)
    assert not index.matched_last
    assert not index.matched_last._lengths


def test_a_template_whose_last_literal_is_not_there_is_not_matched_part_by_part(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("webapp.core.uri_template.matches_rest", pytest.fail)
    feed = Feed(frozenset({"{+a}{/b*}~7!"}), frozenset())
    event = publish(make_hub(), "x", topic="/users/~8!")[0]
    assert not feed.matches(event)


def test_work_that_can_wait_leaves_half_of_the_time_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, rested = 0.0, list[float]()
    monkeypatch.setattr("webapp.scheduling.monotonic", lambda: now)
    monkeypatch.setattr("webapp.scheduling.gevent.sleep", rested.append)
    time_slice = scheduling.BackgroundSlice()
    for seconds in (0.001, 0.009, 5.0):
        now += seconds
        time_slice.checkpoint()
    assert rested == pytest.approx([0.01, scheduling._LONGEST_PAUSE_S])
