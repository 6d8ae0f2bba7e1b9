"""The hand-over in any order of steps: each subscriber gets what it asked for, in order and once.

To search for longer, elsewhere each time, and for the shortest way to what is found:
`HANDOVER_EXAMPLES=5000 python -m pytest tests/unit/hub/test_handover.py --timeout 0 -o
faulthandler_timeout=0`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import product
from typing import TYPE_CHECKING, Any, ClassVar

import gevent
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from support.handover import (
    A_TEMPLATE,
    AB,
    ALL,
    B_OR_TEMPLATE,
    DIRECT,
    EVERYTHING,
    LARGE,
    NOTHING,
    NOW,
    PLENTY,
    TEMPLATE,
    A,
    Stream,
    Subscriber,
    Way,
    beat,
    come_to_rest,
    draft,
    poll,
    publish,
)
from support.hub import make_hub
from webapp.hub.delivery import late_feeds
from webapp.hub.reads.start import Start

if TYPE_CHECKING:
    from webapp.core.events import Event
    from webapp.scheduling import TimeSlice

pytestmark = pytest.mark.usefixtures("no_clock")

Turns = tuple[Callable[[float], None], ...]
EXAMPLES = os.environ.get("HANDOVER_EXAMPLES")
SEARCH = settings(
    max_examples=int(EXAMPLES or 60),
    derandomize=EXAMPLES is None,
    phases=[Phase.generate, Phase.shrink] if EXAMPLES else [Phase.generate],
    stateful_step_count=60,
    database=None,
    deadline=None,
)
WAYS = st.builds(
    Way,
    st.booleans(),
    st.booleans(),
    st.sampled_from([True, True, False]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([True, True, False]),
    st.booleans(),
)
STARTS = st.sampled_from([NOW, Start(cursor="earliest"), Start(last=2)])
SIZES = st.sampled_from([(0,), (0, 0), (0,) * 9, (100,), (5000,), (0, 5000, 0)])
TURNS = st.sampled_from([t for n in range(4) for t in product((gevent.sleep, poll), repeat=n)])


class HandOver(RuleBasedStateMachine):
    """Subscribers and publishers of one hub, and a loop that turns only when it is let."""

    subscribers: Bundle[Subscriber] = Bundle("subscribers")
    pause: ClassVar[Turns] = ()  # what the loop does whenever work gives way

    @initialize(
        target=subscribers,
        window=st.sampled_from([1, 4, 20, 100]),
        history=st.sampled_from([0, PLENTY]),
        ways=st.lists(WAYS, min_size=2, max_size=5),
        late=st.booleans(),
        pause=TURNS,
    )
    def begin(self, window: int, history: int, ways: list[Way], late: bool, pause: Turns) -> Any:  # noqa: FBT001
        HandOver.pause = pause
        late_feeds._BATCH_S = -PLENTY if late else PLENTY
        history = max(window, history)
        self.hub = make_hub(window_events=window, history_events=history, heartbeat=3600)
        self.hub.start()
        self.renewal = gevent.spawn(self.hub.fanout.refresh_cursors)
        self.log: list[Event] = []
        self.checked = 0
        self.all: list[Subscriber] = []
        return multiple(*[self.join(way, A, A, NOW, ()) for way in ways])

    @precondition(lambda self: len(self.all) < 8)
    @rule(
        target=subscribers,
        way=WAYS,
        topics=st.sampled_from([A, AB, EVERYTHING, A_TEMPLATE, TEMPLATE, B_OR_TEMPLATE]),
        granted=st.sampled_from([A, LARGE, NOTHING]),
        start=STARTS,
        turns=TURNS,
    )
    def join(
        self, way: Way, topics: frozenset[str], granted: frozenset[str], start: Start, turns: Turns
    ) -> Subscriber:
        subscriber = Subscriber(self.hub, way, topics, granted, start)
        subscriber.owed.extend(
            e for e in self.log if e.position > subscriber.position and subscriber.matches(e)
        )
        self.all.append(subscriber)
        self.turn(turns)
        return subscriber

    @rule(topics=st.sampled_from(["a", "b", "ab"]), private=st.booleans(), sizes=SIZES, turns=TURNS)
    def publish(self, topics: str, private: bool, sizes: tuple[int, ...], turns: Turns) -> None:  # noqa: FBT001
        data = [f"{number} {'x' * size}" for number, size in enumerate(sizes, len(self.log))]
        self.log += publish(self.hub, self.all, *[draft(topics, d, private=private) for d in data])
        self.turn(turns)

    @rule(subscriber=subscribers, size=st.sampled_from([1, 50, 3000, ALL]), turns=TURNS)
    def read(self, subscriber: Subscriber, size: int, turns: Turns) -> None:
        subscriber.read(size)
        self.turn(turns)

    @rule(renew=st.booleans(), turns=TURNS)
    def tick(self, renew: bool, turns: Turns) -> None:  # noqa: FBT001
        if not renew:
            beat(self.hub)
            for subscriber in self.all:
                subscriber.stream.warn()
        elif self.renewal.dead:
            self.renewal = gevent.spawn(self.hub.fanout.refresh_cursors)
        self.turn(turns)

    @rule(
        subscriber=subscribers,
        reason=st.sampled_from(["kicked", "max_age", "token_expired"]),
        turns=TURNS,
    )
    def end(self, subscriber: Subscriber, reason: str, turns: Turns) -> None:
        subscriber.stream.subscription.end(reason)
        self.turn(turns)

    @rule(
        subscriber=subscribers,
        how=st.sampled_from(["killed", "hung up", "aborted", "failed"]),
        turns=TURNS,
        later=TURNS,
    )
    def cut(self, subscriber: Subscriber, how: str, turns: Turns, later: Turns) -> None:
        stream = subscriber.stream
        if how == "killed":
            stream.kill()
        elif how == "aborted":
            stream.abort()
        elif how == "failed":
            stream.fail()
        if how != "hung up":
            for turn in turns:
                turn(0)
        subscriber.come_back()
        self.turn(later)

    def turn(self, turns: Turns) -> None:
        for turn in turns:
            turn(0)
            for subscriber in self.all:
                if subscriber.way.fast:
                    subscriber.read()

    def teardown(self) -> None:
        try:
            self.nothing_is_missing()
            self.everybody_leaves()
        finally:
            Stream.close_all()
            self.hub.stop()

    @precondition(lambda self: len(self.log) > self.checked + 20)
    @rule()
    def nothing_is_missing(self) -> None:
        self.checked = len(self.log)
        gevent.idle()  # whoever does not read holds nobody up
        assert not self.log or self.hub.fanout.dispatched_up_to == self.log[-1].position
        come_to_rest(self.all, come_back=True)
        for subscriber in self.all:
            assert not subscriber.owed
            assert not subscriber.torn
            if subscriber.way.control:  # it may come back at any time
                assert subscriber.position >= self.hub.window.floor
            assert all(stream.ended for stream in subscriber.streams[:-1] if stream.way.direct)
        assert all(feed.late_from is None for feed in self.hub._feeds)
        assert all(feed.parked <= self.hub._subscribers for feed in self.hub._feeds)
        assert all(
            subscriber.parked == (subscriber in subscriber.feed.parked) for subscriber in self.hub
        )

    def everybody_leaves(self) -> None:
        self.join(DIRECT, A, NOTHING, NOW, ())  # who is just coming, too
        self.hub.drain()
        come_to_rest(self.all)
        for subscriber in self.all:
            assert subscriber.names[-1] == subscriber.last_name
            if subscriber.way.control:
                assert subscriber.position == self.hub.window.head
            assert all(stream.succeeded for stream in subscriber.streams)
        assert not self.hub.failed
        assert not self.hub._subscribers
        assert not list(self.hub._feeds)
        assert not self.hub._feeds._exact
        assert not self.hub._feeds._everything
        assert not self.hub._feeds.matched_last


def pause(_: TimeSlice) -> None:
    for turn in HandOver.pause:
        turn(0)


def test_each_subscriber_gets_its_events_once_and_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("webapp.hub.delivery.dispatcher._BATCH_BYTES", 500)
    monkeypatch.setattr("webapp.hub.reads.history.PAGE_BYTES", 300)
    monkeypatch.setattr("webapp.hub.delivery.late_feeds._PAGE_BYTES", 300)
    monkeypatch.setattr("webapp.hub.delivery.late_feeds._BATCH_S", PLENTY)
    monkeypatch.setattr("webapp.scheduling.TimeSlice.checkpoint", pause)
    monkeypatch.setattr("webapp.hub.delivery.gzip_limits._TINY_BYTES", 0)
    monkeypatch.setattr("webapp.hub.delivery.gzip_limits._MAX_SHARE", PLENTY)
    Stream.inject_errors(monkeypatch)
    run_state_machine_as_test(HandOver, settings=SEARCH)
