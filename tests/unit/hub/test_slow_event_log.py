"""Streams whose beginning waits for a slow event log."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import gevent
import pytest
from gevent.event import Event as Signal

from support.hub import NOBODY, make_hub, publish, subscribe, until_read
from support.waiting import PATIENCE
from webapp.auth.authorizer import Grant
from webapp.brokers.memory import MemoryBroker
from webapp.core.events import Draft, Event, EventId
from webapp.errors import ServiceUnavailable, TooManyRequests
from webapp.hub.delivery.feeds import Feed
from webapp.hub.read_queue import Reading
from webapp.hub.reads.start import Start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from webapp.hub.hub import Hub


def test_a_turn_ends_in_time_and_the_next_one_goes_on(
    slow: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = publish(slow, *"abcde")
    until_read(slow, events)
    monkeypatch.setattr("webapp.hub.reads.history.TURN_S", -1)
    monkeypatch.setattr("webapp.hub.reads.start.TURN_S", -1)
    feed, reading = Feed(frozenset({"t"}), NOBODY), Reading("a")
    found, upto = [], slow.window.floor
    for event in events:
        look = slow.history.look(feed, reading, upto)
        found += look.seen
        upto = look.upto
        assert upto == event.position
    assert found == events
    start = slow.starts.find(Start(last=3), feed, reading)[0]
    assert start == events[1].position


def test_to_look_back_takes_as_many_events_a_turn_as_its_time_allows(
    slow: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = publish(slow, *map(str, range(999)))
    until_read(slow, events)
    monkeypatch.setattr("webapp.hub.reads.start.TURN_S", 1e9)
    monkeypatch.setattr("webapp.hub.reads.start._SCAN_EVENTS", 10)
    queue, granted = slow.reader._queue, list[str]()
    grant = queue._grant

    def note(client: str) -> None:
        granted.append(client)
        grant(client)

    monkeypatch.setattr(queue, "_grant", note)
    feed = Feed(frozenset({"t"}), NOBODY)
    start = slow.starts.find(Start(last=900), feed, Reading("a"))[0]
    assert start == events[98].position
    assert len(granted) <= 3


def test_a_count_that_would_take_long_is_not_begun(
    slow: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webapp.hub.reads.history._COUNTING_S", PATIENCE)
    topics = [[str(number)] for number in range(9)] + [list(map(str, range(600)))]
    events = slow.publish([Draft(topics=tuple(it)) for it in topics])
    until_read(slow, events)
    one, two = (Feed(frozenset({it}), NOBODY) for it in ("{a}", "{a}{b}"))
    assert slow.history.count(one, slow.window.floor) == 10
    monkeypatch.setattr(two, "matches", lambda _: pytest.fail("it is matched"))
    assert slow.history.count(two, slow.window.floor) is None


class SlowBroker(MemoryBroker):
    """A log that takes its time to find a cursor."""

    def __init__(self) -> None:
        super().__init__(1000, 1 << 30, 3600)
        self.answer = Signal()
        self.steps = 0

    def positions_of(
        self, id: str, after: EventId | None, limit: int, topics: Sequence[str] | None = None
    ) -> list[EventId]:
        self.answer.wait()
        return super().positions_of(id, after, limit, topics)

    def before(self, position: EventId, limit: int, max_bytes: int) -> list[Event]:
        self.steps += 1
        return super().before(position, limit, max_bytes)


class Socket:
    """The connection of a client that may hang up."""

    write_timed_out = last = False
    wakeup = None
    gone: Any = None

    @contextmanager
    def on_hangup(self, gone: Callable[[], None]) -> Iterator[None]:
        self.gone = gone
        yield

    def answer_last(self) -> None:
        self.last = True


@pytest.fixture(name="slow")
def _slow() -> Iterator[Hub]:
    hub = make_hub(SlowBroker(), max_subscribers_per_ip=1, window_events=10)
    hub.start()
    yield hub
    hub.stop()


def opened(hub: Hub, socket: Any, start: Start) -> gevent.Greenlet[..., Any]:
    def open_stream() -> Any:
        try:
            return hub.subscribe(frozenset({"t"}), Grant(), start, "a", socket=socket)
        except ServiceUnavailable as error:
            return error.reason

    task = gevent.spawn(open_stream)
    gevent.sleep(0.01)
    return task


def test_a_stream_takes_its_room_before_the_log_is_asked_for_it(slow: Hub) -> None:
    task = opened(slow, Socket(), Start(cursor="somebody's"))
    with pytest.raises(TooManyRequests):
        slow.subscribe(frozenset({"t"}), Grant(), Start(), "a")
    slow.subscribe(frozenset({"t"}), Grant(), Start(), "b")
    slow.broker.answer.set()  # type: ignore[attr-defined]
    assert task.get(timeout=PATIENCE).reset_reason == "unknown"
    slow.quota.check("a")  # its stream did not open


def test_the_id_of_a_private_event_not_yet_dispatched_is_unknown(slow: Hub) -> None:
    first = publish(slow, "public")
    until_read(slow, first)
    slow.broker.answer.set()  # type: ignore[attr-defined]
    slow.broker.append([Draft(topics=("t",), id="secret", private=True)])
    feed = Feed(frozenset({"t"}), NOBODY)
    assert slow.window.head == first[0].position
    assert slow.starts.find(Start(cursor="secret"), feed, Reading("a"))[1] == "unknown"


def test_a_hang_up_before_the_stream_begins_leaves_the_queue(slow: Hub) -> None:
    sockets = [Socket() for _ in range(3)]
    slow.quota._limit_per_client = 0
    tasks = [opened(slow, it, Start(cursor="somebody's")) for it in sockets]
    for it in sockets:
        it.gone()
    assert tasks[2].get(timeout=PATIENCE) == "client_left"  # the first two ask the log
    assert sockets[2].last
    slow.drain()
    slow.broker.answer.set()  # type: ignore[attr-defined]
    gevent.joinall(tasks, timeout=PATIENCE)
    assert not slow.quota._open_by_client
    assert not slow.waiting_clients._readings


def test_more_than_the_log_keeps_begins_at_its_floor_without_a_look(slow: Hub) -> None:
    until_read(slow, publish(slow, *map(str, range(500))))
    steps = slow.broker.steps  # type: ignore[attr-defined]
    floor = slow.broker.bounds().floor
    assert subscribe(slow, last=999_999_999).cursor == floor
    assert subscribe(slow, last=500).cursor == floor
    assert slow.broker.steps == steps  # type: ignore[attr-defined]
    assert subscribe(slow, last=499).cursor > floor
    assert slow.broker.steps > steps  # type: ignore[attr-defined]


def test_a_count_that_takes_long_is_given_up(slow: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webapp.hub.reads.history._COUNTING_S", PATIENCE)
    events = publish(slow, "a", "b")
    gevent.sleep(0.01)
    feed = Feed(frozenset({"t"}), NOBODY)
    before = EventId(events[0].position.ms, -1)
    slow.window.floor = min(slow.window.floor, before)
    assert slow.history.count(feed, before) == 2
    monkeypatch.setattr("webapp.hub.reads.history._COUNTING_S", -1)
    assert slow.history.count(feed, before) is None
