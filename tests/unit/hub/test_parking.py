"""Subscribers that park, catch up, and are sent marks, step by step."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import gevent
import pytest

from support.handover import (
    AB,
    ALL,
    EVERYTHING,
    PLENTY,
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
from support.hub import make_hub, subscribe
from support.waiting import PATIENCE
from webapp.brokers.base import Gap
from webapp.core.events import EventId
from webapp.hub.reads.start import Start
from webapp.hub.socket_protocol import PARKED, Buffer, never_sends

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from webapp.hub.delivery.feeds import Feed
    from webapp.hub.hub import Hub
    from webapp.hub.read_queue import Reading
    from webapp.hub.reads.history import Found
    from webapp.scheduling import TimeSlice

pytestmark = pytest.mark.usefixtures("no_clock")


@pytest.fixture(name="hub")
def _hub() -> Iterator[Hub]:
    hub = make_hub(window_events=8, history_events=8, heartbeat=3600)
    hub.start()
    yield hub
    Stream.close_all()
    hub.stop()


def test_a_subscriber_parks_in_the_breath_in_which_it_found_nothing_more(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    gevent.killall(hub._tasks)
    look = hub.history.look

    def look_before_an_event(feed: Feed, reading: Reading, after: EventId) -> Found:
        if not (found := look(feed, reading, after)).more and not hub.window:
            gevent.spawn(deliver)
        return found

    def deliver() -> None:  # what the follower and the dispatcher do
        events = publish(hub, [subscriber], draft("a"))
        hub.window.append(events)
        hub.dispatcher._deliver(events)
        hub.fanout.dispatched_up_to = events[-1].position

    monkeypatch.setattr(hub.history, "look", look_before_an_event)
    subscriber = Subscriber(hub)
    come_to_rest([subscriber])
    assert hub.window
    assert not subscriber.owed


def test_a_subscriber_that_parks_within_the_next_batch_is_given_its_rest(hub: Hub) -> None:
    gevent.killall(hub._tasks)
    batch = hub.publish([draft("a"), draft("a")])
    hub.window.append(batch[:1])
    subscriber = Subscriber(hub)
    subscriber.owed.append(batch[1])
    come_to_rest([subscriber])
    hub.window.append(batch[1:])
    hub.dispatcher._deliver(batch)
    assert subscriber.read()
    assert not subscriber.owed
    hub.dispatcher._deliver(batch)
    hub.fanout.dispatched_up_to = subscriber.position
    for _ in range(2):
        hub.fanout.refresh_cursors()
    assert not subscriber.read()  # it has all and knows the newest position


def test_what_fits_its_buffer_does_not_wake_a_subscriber(hub: Hub) -> None:
    subscriber = Subscriber(hub)
    come_to_rest([subscriber])
    publish(hub, [subscriber], *[draft("a")] * 3)
    for _ in range(30):
        gevent.sleep(0)
        subscription = subscriber.stream.subscription
        assert subscription in subscription.feed.parked
    assert subscriber.read()
    assert not subscriber.owed


def test_a_subscriber_that_ends_while_catching_up_gets_its_position(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webapp.hub.reads.history.PAGE_BYTES", 1)
    hub.publish([draft("b", private=True)] * 8)
    gevent.idle()
    subscriber = Subscriber(hub, topics=EVERYTHING, start=Start(cursor="earliest"))
    subscription = subscriber.stream.subscription
    while subscription.cursor == subscriber.position:
        gevent.sleep(0)
    subscription.end("kicked")
    subscription.end("drain")
    come_to_rest([subscriber])
    assert subscription.reason == "kicked"
    assert subscriber.position < hub.window.head


@pytest.mark.parametrize("direct", [True, False])
def test_half_a_window_that_a_subscriber_does_not_see_is_worth_a_mark(
    hub: Hub, *, direct: bool
) -> None:
    quiet, busy = Subscriber(hub, Way(direct=direct)), Subscriber(hub, topics=EVERYTHING)
    both = [quiet, busy]
    come_to_rest(both)
    positions = []
    for _ in range(12):
        positions += [event.position for event in publish(hub, both, draft("b"))]
        come_to_rest(both)
        if direct:
            beat(hub)  # which sends nobody a position
    assert quiet.marks == positions[3::4]
    # Of a batch it knows the event that it saw; who was woken by it looks when it parks again.
    [_, unseen] = publish(hub, both, draft("a"), draft("b"))
    come_to_rest(both)
    [_, last] = publish(hub, both, draft("b"), draft("b"))
    come_to_rest(both)
    assert quiet.marks[3:] == [last.position if direct else unseen.position]
    assert busy.marks == []
    assert b"hub.reset" not in quiet.names


def test_no_mark_is_older_than_what_its_subscriber_got_meanwhile(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscribers = [Subscriber(hub), Subscriber(hub)]
    come_to_rest(subscribers)

    def meanwhile(_: TimeSlice) -> None:
        monkeypatch.setattr("webapp.scheduling.TimeSlice.checkpoint", lambda _: None)
        publish(hub, subscribers, draft("a"))
        publish(hub, subscribers, *[draft("b")] * 4)
        gevent.idle()

    monkeypatch.setattr("webapp.scheduling.TimeSlice.checkpoint", meanwhile)
    hub.fanout.refresh_cursors()
    come_to_rest(subscribers)
    assert not any(subscriber.owed for subscriber in subscribers)


def test_no_mark_is_of_a_log_that_was_lost_meanwhile(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscribers = [Subscriber(hub), Subscriber(hub)]
    come_to_rest(subscribers)
    publish(hub, subscribers, *[draft("b")] * 8)
    come_to_rest(subscribers)

    def meanwhile(_: TimeSlice) -> None:
        monkeypatch.setattr("webapp.scheduling.TimeSlice.checkpoint", lambda _: None)
        hub.dispatcher._jump_gap(Gap(EventId(1, 0), "unknown"))
        gevent.idle()

    monkeypatch.setattr("webapp.scheduling.TimeSlice.checkpoint", meanwhile)
    hub.fanout.refresh_cursors()
    for subscriber in subscribers:
        assert subscriber.stream.read(ALL)
        assert subscriber.stream.raw.count(b"hub.reset") == 1
        assert b"hub.mark" not in subscriber.stream.raw.split(b"hub.reset")[1]


def test_a_subscriber_cut_before_its_reset_gets_it_on_return(hub: Hub) -> None:
    subscriber = Subscriber(hub)
    come_to_rest([subscriber])
    subscriber.stream.hang_up()
    publish(hub, [subscriber], *[draft("a")] * 20)
    subscriber.come_back()
    gevent.idle()
    while subscriber.names[1:] != [b"hub.open"]:
        subscriber.read(1)
    subscriber.come_back()
    come_to_rest([subscriber])
    assert b"hub.reset" in subscriber.names
    assert not subscriber.owed


def turns(done: Callable[[], bool]) -> int:
    """Count how often the loop turns until something is done."""
    for count in range(PLENTY):
        if done():
            return count
        poll()
    pytest.fail("it is never done")


def test_work_on_many_lets_the_loop_turn_at_each_of_them(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscribers = [
        Subscriber(hub, topics=topics) for topics in (A, AB, EVERYTHING) for _ in range(4)
    ]
    come_to_rest(subscribers)
    monkeypatch.setattr("webapp.scheduling._SLICE_S", -1)
    *_, last = publish(hub, subscribers, *[draft("a")] * 5)
    assert turns(lambda: hub.fanout.dispatched_up_to == last.position) >= 5 * 3 + 12
    assert turns(gevent.spawn(hub.fanout.refresh_cursors).ready) >= 12


@pytest.mark.parametrize(("slice_", "page"), [(-1, ALL), (PLENTY, 1)])
def test_a_subscriber_that_catches_up_lets_the_loop_turn(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, slice_: float, page: int
) -> None:
    monkeypatch.setattr("webapp.scheduling._SLICE_S", slice_)
    monkeypatch.setattr("webapp.hub.reads.history.PAGE_BYTES", page)
    hub.publish([draft("b", private=True)] * 8)
    gevent.idle()
    subscriber = Subscriber(hub, topics=EVERYTHING, start=Start(cursor="earliest"))
    subscription = subscriber.stream.subscription
    assert turns(lambda: subscription in subscription.feed.parked) >= 8


class Driver:
    """The socket of a server that keeps parked streams, and continues them when they ask for it."""

    write_timed_out = False
    is_stream = True
    keeps_stream = False

    def __init__(self) -> None:
        self.wakeup = self
        self.woken = 0
        self.rest = b""

    def set(self) -> None:
        self.woken += 1

    def nonblocking_send(self) -> tuple[bool, Any, object]:
        return False, never_sends, self

    def sendall(self, data: Buffer) -> None:
        self.rest += data

    @contextmanager
    def on_hangup(self, _: Any) -> Iterator[None]:
        yield


def test_a_server_that_keeps_parked_streams_does_not_wait_in_them(hub: Hub) -> None:
    driver: Any = Driver()
    stream = subscribe(hub, "a")
    frames = stream.frames(driver)
    assert b"hub.open" in next(frames)
    assert next(frames) is PARKED
    driver.keeps_stream = True
    assert stream in stream.feed.parked
    publish(hub, [], draft("a", "hello"))
    with gevent.Timeout(PATIENCE):
        while not driver.woken:
            gevent.idle()
    assert next(frames) is PARKED
    assert b"data: hello" in driver.rest
    stream.end("kicked")
    assert driver.woken == 2
    assert b"hub.bye" in b"".join(frames)
    assert not list(hub._feeds)


@pytest.mark.parametrize("kept", [True, False])
def test_a_stream_that_its_server_kept_ends_without_waiting_for_a_turn(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, *, kept: bool
) -> None:
    """Its server lets a few streams go on at a time. To wait costs as much as to end."""
    turns = list[bool]()
    monkeypatch.setattr(hub.stream_context.turns, "wait", lambda: turns.append(True))
    driver: Any = Driver()
    stream = subscribe(hub, "a")
    frames = stream.frames(driver)
    next(frames)
    if kept:
        assert next(frames) is PARKED
        driver.keeps_stream = True
    stream.end("drain")
    turns.clear()  # that in which it opened
    assert b"hub.bye" in b"".join(frames)
    assert turns == [True] * (not kept)


@pytest.mark.parametrize("is_stream", [True, False])
def test_a_stream_waits_where_an_app_changes_its_body(hub: Hub, *, is_stream: bool) -> None:
    driver: Any = Driver()
    driver.is_stream = is_stream
    stream = subscribe(hub, "a")
    arrived = list[bytes]()

    def read() -> None:  # as what compresses a body: nothing comes out for an empty text
        arrived.extend(frame for frame in stream.frames(driver) if frame)

    task = gevent.spawn(read)
    with gevent.Timeout(PATIENCE):
        while stream not in stream.feed.parked:
            gevent.idle()
        publish(hub, [], draft("a", "hello"))
        while not any(b"data: hello" in frame for frame in arrived):
            gevent.idle()
        stream.end("kicked")
        task.join()
    assert driver.rest == b""
    assert b"hub.bye" in arrived[-1]


@pytest.fixture(name="full")
def _full(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with no memory for what slow clients have not taken yet."""
    monkeypatch.setattr("webapp.hub.delivery.replays._SMALL_BYTES", -1)
    hub = make_hub(heartbeat=3600, max_replay_bytes=1)
    hub.start()
    yield hub
    Stream.close_all()
    hub.stop()


def test_what_could_not_be_written_and_is_not_kept_is_read_again(full: Hub) -> None:
    subscriber = Subscriber(full, Way(direct=False))  # nothing is written to its socket
    come_to_rest([subscriber])
    for _ in range(3):
        publish(full, [subscriber], *[draft("a")] * 3, draft("b"))
        come_to_rest([subscriber])
        assert not subscriber.owed
    assert full.reader.replays.sending_bytes == 0


def test_a_stream_is_cut_off_whose_rest_there_is_no_memory_for(full: Hub) -> None:
    subscriber = Subscriber(full)
    come_to_rest([subscriber])
    publish(full, [subscriber], draft("a", "x" * 300_000))
    cut = subscriber.stream
    assert turns(lambda: cut.ended) < PLENTY
    assert cut.subscription.reason == "too_slow"
    assert full.reader.replays.sending_bytes == 0
    subscriber.come_back()
    come_to_rest([subscriber])
    assert not subscriber.owed
    assert not subscriber.torn
