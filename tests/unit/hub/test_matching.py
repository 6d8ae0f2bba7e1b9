"""Matching topics: bounded in memory and in turns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gevent

from support.hub import NOBODY
from webapp.core import topics
from webapp.core.events import Draft, Event, EventId
from webapp.core.topics import TopicPatterns
from webapp.hub.delivery.feeds import Feed

if TYPE_CHECKING:
    import pytest


def test_matching_many_topics_lets_others_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webapp.scheduling._SLICE_S", -1)
    feed = Feed(frozenset({"{a}/{b}"}), NOBODY)
    event = Event(EventId(1, 0), Draft(topics=tuple(map(str, range(100)))))
    turns = 0

    def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            gevent.sleep(0)

    other = gevent.spawn(count)
    assert not feed.matches(event)
    other.kill()
    assert turns > 50


def test_what_is_kept_of_matching_is_bounded_and_holds_no_long_topic() -> None:
    wanted = TopicPatterns(frozenset({"/{a}", "x"}))
    topics._matches.clear()
    for number in range(10_000):
        assert wanted.matches(f"/{number}")
        assert not wanted.matches("y" * 200 + str(number))
        assert wanted.matches("x")
    assert 0 < len(topics._matches) <= topics._MAX_CACHED_MATCHES
    assert max(len(topic) for _, topic in topics._matches) < 100
