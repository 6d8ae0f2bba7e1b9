"""Snapshots: `latest` begins a stream with the newest event of each topic."""

from __future__ import annotations

import random
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import gevent
import pytest

from support.hub import Subscriber, make_hub, publish, subscribe, until_read
from support.waiting import PATIENCE
from webapp.auth.authorizer import Grant
from webapp.brokers.memory import MemoryBroker
from webapp.core import sse
from webapp.core.events import Draft, Event, EventId
from webapp.errors import ServiceUnavailable
from webapp.hub.delivery.feeds import PLAIN, Feed, Form
from webapp.hub.read_queue import Reading
from webapp.hub.reads.snapshot import Snapshots
from webapp.hub.reads.start import Start
from webapp.hub.streams.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from webapp.core.sse import ServerSentEvent
    from webapp.hub.hub import Hub

TOPICS = [f"{first}/{number}" for first in "abc" for number in range(6)]
PATTERNS: list[tuple[str, ...]] = [
    ("a/{n}",),
    ("a/1", "b/2", "none"),
    ("*",),
    ("{x}/3", "a/{n}", "a/1"),
]
GRANTS = ["", "*", "a/{n}", "c/1"]


@pytest.fixture(name="hub")
def _hub() -> Iterator[Hub]:
    hub = make_hub(MemoryBroker(100_000, 1 << 30, 3600), window_events=20)
    hub.start()
    yield hub
    hub.stop()


def taken(hub: Hub, *topics: str, granted: str = "", **start: Any) -> list[ServerSentEvent]:
    """Return the first frames of a stream, up to the first with an id."""
    stream = subscribe(hub, *topics, granted=granted, latest=True, **start)
    found: list[ServerSentEvent] = []
    for message in sse.decode(stream.frames()):
        found.append(message)
        if message.id:
            break
    return found


def snapshot_of(published: list[Event], feed: Feed, at: EventId) -> list[Event]:
    """Return what a snapshot has, by a walk through all events."""
    seen = [it for it in published if it.position <= at and feed.matches(it)]
    newest = {topic: it for it in seen for topic in it.draft.topics if feed.matcher.matches(topic)}
    return sorted({*newest.values()}, key=lambda it: it.position)


def test_it_has_the_newest_event_of_each_topic_in_the_logs_order_and_one_id(hub: Hub) -> None:
    publish(hub, "old", topic="a/1")
    [both] = hub.publish([Draft(topics=("a/2", "a/3"), data="both", id="own", type="news")])
    publish(hub, "other", topic="b/1")
    newest = publish(hub, "new", topic="a/1")
    until_read(hub, newest)
    opened, first, second = taken(hub, "a/{n}")
    assert (opened.type, opened.id) == ("hub.open", "")
    assert (first.type, first.data, first.id) == ("news", "both", "")
    assert (second.data, second.id) == ("new", str(newest[0].position))
    assert [it.data for it in taken(hub, "a/3", "b/1")[1:]] == ["both", "other"]
    later = publish(hub, "last", topic="b/9")
    assert [it.id for it in taken(hub, "a/1")] == ["", str(later[0].position)]
    opened, mark = taken(hub, "none")
    assert (mark.type, mark.id) == ("hub.mark", str(later[0].position))
    assert both.position < newest[0].position


def test_private_events_are_in_it_by_grant(hub: Hub) -> None:
    publish(hub, "public", topic="a/1")
    for number in range(600):  # more than are looked at in one turn
        hub.publish([Draft(topics=("a/1", f"user/{number}"), data=str(number), private=True)])
    publish(hub, "secret", topic="a/2", private=True)
    assert [it.data for it in taken(hub, "a/{n}")[1:]] == ["public"]
    assert [it.data for it in taken(hub, "a/1", "a/2", granted="user/7")[1:]] == ["7"]
    assert [it.data for it in taken(hub, "a/{n}", granted="user/7")[1:]] == ["7"]
    assert [it.data for it in taken(hub, "a/{n}", granted="nobody")[1:]] == ["public"]
    assert [it.data for it in taken(hub, "a/{n}", granted="a/2")[1:]] == ["public", "secret"]
    assert [it.data for it in taken(hub, "a/{n}", granted="*")[1:]] == ["599", "secret"]


def test_a_cursor_counts_first_and_a_lost_one_is_told_before_the_snapshot(hub: Hub) -> None:
    events = publish(hub, "1", "2", "3")
    kept = Subscriber(subscribe(hub, latest=True, last=1, cursor=events[0].id))
    assert kept.await_data(2) == ["2", "3"]
    assert kept.messages()[0].id == events[0].id
    kept.leave()
    opened, reset, newest = taken(hub, "t", cursor="1-1", last=2)
    assert [it.type for it in (opened, reset, newest)] == ["hub.open", "hub.reset", "message"]
    assert (reset.data, reset.id, newest.data) == ('{"reason": "aged"}', "", "3")
    assert [it.data for it in taken(hub, "t", last=3, since=0)[1:]] == ["3"]


def test_without_control_events_only_the_last_frame_has_an_id(hub: Hub) -> None:
    [first, second] = publish(hub, "1", topic="a/1") + publish(hub, "2", topic="a/2")
    grant, silent = Grant(subscribe=frozenset()), Form(control=False)
    for topic, begins in (
        ("a/{n}", b"data: 1\n\nid: %b\ndata: 2\n\n" % second.id.encode()),
        ("none", b"id: %b\n" % second.id.encode()),
    ):
        stream = hub.subscribe(frozenset({topic}), grant, Start(latest=True), form=silent)
        raw = b""
        for frame in stream.frames():
            raw += frame
            if b"id: " in raw:
                break
        retry, _, rest = raw.partition(b"\n")
        assert retry.startswith(b"retry: ")
        assert rest == begins
    assert first.position < second.position


def test_an_envelope_has_the_id_of_the_event_and_not_of_the_frame(hub: Hub) -> None:
    hub.publish([Draft(topics=("a/1",), data="x", id="own")])
    [end] = publish(hub, "end", topic="b")
    grant, form = Grant(subscribe=frozenset()), Form(envelope=True)
    stream = hub.subscribe(frozenset({"a/1"}), grant, Start(latest=True), form=form)
    [event] = [it for it in sse.decode(iter_until_id(stream.frames())) if it.type == "message"]
    assert (event.id, '"id":"own"' in event.data) == (end.id, True)


def iter_until_id(frames: Iterator[bytes]) -> Iterator[bytes]:
    for frame in frames:
        yield frame
        if b"id: " in frame:
            return


def test_between_the_events_of_a_page_others_run(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    events = [publish(hub, "x", topic=f"t/{number}")[0] for number in range(3)]
    until_read(hub, events)
    monkeypatch.setattr("webapp.scheduling._SLICE_S", 0)
    feed, reading = Feed(frozenset({"t/{n}"}), frozenset()), Reading("a")
    snapshot = Snapshots(hub.reader, 1 << 20).begin(feed)
    assert snapshot.read(reading) == []  # it has looked at the topics
    ran: list[int] = []

    def note(_: Event) -> bool:
        ran.append(1)
        return True

    monkeypatch.setattr(feed, "matches", note)
    task = gevent.spawn(snapshot.read, reading)
    with gevent.Timeout(PATIENCE):
        while not ran:
            gevent.sleep(0)
    assert len(ran) < len(events)
    assert task.get(timeout=PATIENCE) == events
    snapshot.close()


class TornBroker(MemoryBroker):
    """An event log that cannot be read now and then."""

    calls = 0

    def _fail(self) -> None:
        self.calls += 1
        if self.calls % 25 == 0:
            detail = "It is unavailable."
            raise ServiceUnavailable(detail, "Try again.")

    def topics(self, *args: Any) -> Any:
        self._fail()
        return super().topics(*args)

    def newest(self, *args: Any, **options: Any) -> Any:
        self._fail()
        return super().newest(*args, **options)

    def read_at(self, *args: Any) -> Any:
        self._fail()
        return super().read_at(*args)


@pytest.mark.parametrize("broker", [MemoryBroker, TornBroker])
def test_it_is_taken_in_passes_that_hold_a_bounded_number_of_positions(
    broker: type[MemoryBroker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webapp.hub.reads.snapshot.MAX_INDEX_TOPICS", 50)
    monkeypatch.setattr("webapp.hub.reads.snapshot._MIN_HELD_POSITIONS", 20)
    hub = make_hub(broker(100_000, 1 << 30, 3600), window_events=20, heartbeat=0.001)
    names = random.Random(1).sample([f"t/{number}" for number in range(333)], 333)
    events = [publish(hub, name, topic=name)[0] for name in names]
    until_read(hub, events)
    snapshots = Snapshots(hub.reader, 0)
    monkeypatch.setattr(hub, "stream_context", replace(hub.stream_context, snapshots=snapshots))
    subscriber = Subscriber(subscribe(hub, "t/{number}", latest=True))
    held = 0
    with gevent.Timeout(PATIENCE):
        while not subscriber.subscription.parked:
            if subscriber.subscription.snapshot:
                held = max(held, len(subscriber.subscription.snapshot._held))
            gevent.sleep(0)
    assert subscriber.data() == names
    assert [it.id for it in subscriber.messages() if it.id] == [events[-1].id]
    assert 1 <= held <= 20
    subscriber.leave()
    assert not snapshots.positions._reserved_by
    hub.stop()


def test_one_client_leaves_half_of_the_positions_to_others(hub: Hub) -> None:
    snapshots = Snapshots(hub.reader, 128 * 100_000).positions
    of_one = [snapshots.reserve("a") for _ in range(100)]
    assert of_one[:2] == [25_000, 12_500]
    assert of_one[-1] == 1000
    assert snapshots.reserve("b") == 25_000
    for count in of_one:
        snapshots.release("a", count)
    assert snapshots.reserve("a") == 25_000
    assert snapshots._reserved_by == {"a": 25_000, "b": 25_000}


def test_a_snapshot_reserves_no_more_than_it_holds(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webapp.hub.reads.log_reader.PAGE_BYTES", 1)
    until_read(hub, [publish(hub, "x", topic=f"t/{number}")[0] for number in range(10)])
    snapshots = hub.stream_context.snapshots
    stream = subscribe(hub, "t/{number}", latest=True)
    with closing(cast("Generator[bytes]", stream.frames())) as frames:
        assert b"hub.open" in next(frames)
        assert next(frames)
        assert snapshots.positions._reserved_by == {"": 10}
    assert not snapshots.positions._reserved_by


@pytest.mark.parametrize("bound", ["_SCAN_EVENTS", "MAX_INDEX_TOPICS"])
def test_a_client_is_sent_heartbeats_while_topics_are_looked_at(
    bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webapp.hub.reads.snapshot._STEP_S", 0)
    monkeypatch.setattr(f"webapp.hub.reads.snapshot.{bound}", 5)
    monkeypatch.setattr(Stream, "_is_long", lambda *_: True)
    hub = make_hub(MemoryBroker(100_000, 1 << 30, 3600))
    public = publish(hub, "public", topic="quiet")
    for number in range(200):
        drafts = [Draft(topics=("quiet", f"t/{number}"), private=True)]
        until_read(hub, hub.publish(drafts))
    stream = subscribe(hub, "quiet", "t/{number}", granted="none", latest=True)
    frames = list[bytes]()
    for frame in stream.frames():
        frames.append(frame)
        if b"public" in frame:
            break
    assert frames.count(sse.HEARTBEAT) > 10
    assert str(public[0].position).encode() not in b"".join(frames)
    hub.stop()


@pytest.mark.parametrize("seed", range(12))
def test_under_publishers_and_cut_anywhere_there_is_no_gap_and_no_double(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    monkeypatch.setattr("webapp.hub.reads.snapshot.MAX_INDEX_TOPICS", chance.choice([2, 5, 1000]))
    monkeypatch.setattr("webapp.hub.reads.snapshot._STEP_S", chance.choice([0, 0.5]))
    monkeypatch.setattr(
        "webapp.hub.reads.snapshot._MIN_HELD_POSITIONS", chance.choice([1, 3, 1000])
    )
    monkeypatch.setattr(
        "webapp.hub.reads.snapshot._MAX_HELD_POSITIONS", chance.choice([1, 3, 1000])
    )
    monkeypatch.setattr("webapp.hub.reads.log_reader.PAGE_BYTES", chance.choice([1, 200, 1 << 16]))
    hub = make_hub(window_events=chance.choice([3, 30, 1000]))
    hub.start()
    published: list[Event] = []

    def publish_some(steps: int) -> None:
        for _ in range(steps):
            topics = chance.sample(TOPICS, chance.choice([1, 1, 2]))
            draft = Draft(
                topics=tuple(topics), data=str(len(published)), private=chance.random() < 0.3
            )
            published.extend(hub.publish([draft]))
            gevent.sleep(0)

    publish_some(chance.choice([0, 5, 50]))
    publisher = gevent.spawn(publish_some, 150)
    clients = [
        Client(hub, random.Random(n), *chance.choice(PATTERNS), grant=chance.choice(GRANTS))
        for n in range(4)
    ]
    tasks = [gevent.spawn(client.run, publisher) for client in clients]
    gevent.joinall(tasks, timeout=PATIENCE, raise_error=True)
    for client in clients:
        assert client.position, "its snapshot has ended"
        feed = Feed(client.patterns, client.granted)
        expected = snapshot_of(published, feed, client.position)
        expected += [it for it in published if it.position > client.position and feed.matches(it)]
        assert client.data == [it.draft.data for it in expected]
    hub.stop()


class Client:
    """A client that is cut anywhere, and returns: with its cursor, or for a snapshot."""

    def __init__(self, hub: Hub, chance: random.Random, *patterns: str, grant: str) -> None:
        self.hub = hub
        self.chance = chance
        self.patterns = frozenset(patterns)
        self.granted = frozenset({grant} - {""})
        self.form = chance.choice([PLAIN, Form(control=False)])
        self.cursor: str | None = None
        self.data: list[str] = []
        self.position: EventId | None = None  # of the snapshot

    def run(self, publisher: gevent.Greenlet[[int], None]) -> None:
        while not publisher.dead:
            self.connect(self.chance.choice([0, 1, 3, 10, 40]))
        while self.hub.window.head < self.hub.broker.bounds().head:
            gevent.sleep(0.001)
        self.connect(None)

    def connect(self, frames: int | None) -> None:
        """Read some frames, the last of which is cut; None: up to the end of the event log."""
        start = Start(cursor=self.cursor, latest=True)
        grant = Grant(subscribe=self.granted)
        stream = self.hub.subscribe(self.patterns, grant, start, form=self.form)
        raw: list[bytes] = []
        task = gevent.spawn(self.read, stream, raw, frames)
        with gevent.Timeout(PATIENCE):
            while not (task.dead or (stream.parked and stream.cursor >= self.hub.window.head)):
                gevent.sleep(0)
        stream.end("client_left")
        task.join()
        self.take(sse.decode(raw))

    def read(self, stream: Stream, raw: list[bytes], frames: int | None) -> None:
        for frame in stream.frames():
            raw.append(frame)
            if len(raw) == frames:
                raw[-1] = frame[: self.chance.randrange(len(frame) + 1)]
                return

    def take(self, messages: Iterator[ServerSentEvent]) -> None:
        if self.cursor is None:
            self.data = []
        for message in messages:
            if not message.type.startswith("hub."):
                self.data.append(message.data)
            assert message.type != "hub.reset" or "presence" in message.data
            if message.id:
                if self.cursor is None:
                    self.position = EventId.parse(message.id)
                self.cursor = message.id
