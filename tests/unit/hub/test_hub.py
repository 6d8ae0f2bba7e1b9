"""The hub without a server: hand-over, resume and registration, in one process."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import gevent
import pytest
from gevent.event import Event as Signal
from hypothesis import given, settings
from hypothesis import strategies as st

from support.hub import Reader, make_hub, publish, subscribe
from support.waiting import PATIENCE, one_of_three
from webapp.auth.authorizer import Grant
from webapp.brokers.base import Gap
from webapp.brokers.memory import MemoryBroker
from webapp.core import sse
from webapp.core.events import Draft, Event, EventId
from webapp.core.window import Window
from webapp.errors import ServiceUnavailable
from webapp.hub.feeds import Feed
from webapp.hub.history import Start

if TYPE_CHECKING:
    from collections.abc import Iterator

    from webapp.hub.hub import Hub


class LaggingBroker(MemoryBroker):
    """A log that this process follows only when it is let."""

    def __init__(self) -> None:
        super().__init__(1000, 1 << 20, 3600)
        self.released = Signal()

    def follow(self, after: EventId) -> Iterator[list[Event] | Gap]:
        for events in super().follow(after):
            self.released.wait()
            yield events


def test_a_cursor_that_this_process_has_only_not_reached_is_no_reason_for_a_reset() -> None:
    broker = LaggingBroker()
    hub = make_hub(broker)
    events = publish(hub, "a", "b", "c")
    gevent.sleep(0)
    assert hub.fanout.window.head < events[0].position
    reader = Reader(subscribe(hub, cursor=events[1].id))
    gevent.sleep(0.01)
    broker.released.set()
    assert reader.await_data(1) == ["c"]
    assert [m.type for m in reader.messages()] == ["hub.open", "message"]
    assert reader.messages()[0].id == events[1].id
    reader.leave()
    hub.stop()


def test_leaving_unregisters_also_after_an_exception(hub: Hub) -> None:
    frames = subscribe(hub, "a", "b", "*", "c/{d}").frames()
    next(frames)
    assert len(hub) == 1
    with pytest.raises(RuntimeError):
        frames.throw(RuntimeError)  # type: ignore[attr-defined]
    frames = subscribe(hub).frames()
    next(frames)
    frames.close()  # type: ignore[attr-defined]
    assert len(hub) == 0
    assert hub.metrics.totals()["ended"] == {}
    hub.measure()
    assert hub.metrics.totals()["ended"] == {"error": 1, "client_left": 1}
    assert not list(hub._feeds)
    assert not hub._feeds._exact
    assert not hub._feeds._patterns


def test_readers_of_the_same_topics_share_one_feed(hub: Hub) -> None:
    readers = [Reader(subscribe(hub, "a", "b")), Reader(subscribe(hub, "b", "a"))]
    readers += [Reader(subscribe(hub, "a"))]
    gevent.sleep(0.01)
    assert len(hub._feeds) == 2
    for reader in readers:
        reader.leave()


def test_private_events_reach_only_those_granted_live_and_on_replay(hub: Hub) -> None:
    publish(hub, "old", private=True)
    publish(hub, "public")
    granted = Reader(subscribe(hub, granted="t", cursor="earliest"))
    stranger = Reader(subscribe(hub, granted="other", cursor="earliest"))
    publish(hub, "new", private=True)
    publish(hub, "end")
    assert granted.await_data(4) == ["old", "public", "new", "end"]
    assert stranger.await_data(2) == ["public", "end"]
    for reader in (granted, stranger):
        reader.leave()


def test_a_control_frame_never_carries_the_own_id_of_an_event(hub: Hub) -> None:
    hub.publish([Draft(topics=("t",), id="secret", private=True)])
    gevent.sleep(0.01)
    reader = Reader(subscribe(hub))
    gevent.sleep(0.01)
    reader.subscription.end("kicked")
    reader.task.join(10)
    assert [m.type for m in reader.messages()] == ["hub.open", "hub.bye"]
    assert b"secret" not in b"".join(reader.raw)


def test_a_token_that_ends_ends_the_stream(hub: Hub) -> None:
    grant = Grant(subscribe=frozenset({"t"}), expires=1.0)
    reader = Reader(hub.subscribe(frozenset({"t"}), grant, Start()))
    reader.task.join(10)
    assert json.loads(reader.messages()[-1].data) == {"reason": "token_expired"}


def test_the_follower_waits_for_the_dispatcher_before_the_window_drops_anything() -> None:
    hub = make_hub(window_events=5)
    hub.start()
    readers = [Reader(subscribe(hub)) for _ in range(3)]
    gevent.sleep(0.01)
    numbers = [str(n) for n in range(500)]
    publish(hub, *numbers)
    for reader in readers:
        assert reader.await_data(500) == numbers
        assert "hub.reset" not in {m.type for m in reader.messages()}
        reader.leave()
    with gevent.Timeout(5):
        while len(hub.fanout.window) > 5:
            gevent.sleep(0.001)
    hub.stop()


def test_events_that_pour_in_share_the_writes_of_long_passes(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, passes = hub.fanout._send, list[int]()

    def send_for_long(batch: list[Event]) -> None:
        passes.append(len(batch))
        time.sleep(0.01)  # the loop stands still, as in a pass to a thousand readers
        send(batch)

    monkeypatch.setattr(hub.fanout, "_send", send_for_long)
    reader = Reader(subscribe(hub))
    gevent.sleep(0.01)
    numbers = [str(n) for n in range(200)]
    for number in numbers:
        publish(hub, number)
        gevent.sleep(0)
    assert reader.await_data(200) == numbers
    with gevent.Timeout(10):
        while sum(passes) < 200:
            gevent.sleep(0.001)
    assert len(passes) < 20
    reader.leave()


@pytest.mark.parametrize(
    ("limits", "pours"),
    [
        ({"_GATHERING": 60, "_POURING": 60, "_BATCH_BYTES": 1}, 0),  # more waits than fits
        ({"_GATHERING": 60, "_POURING": 60, "_FEW": 0}, 5),  # a burst that is over
        ({"_GATHERING": 0.1, "_PAUSE": 0.02, "_BATCH_BYTES": 1 << 30}, 5000),  # one without an end
        ({"_GATHERING": 0.01, "_POURING": 60}, 0),  # nothing more comes
    ],
)
def test_a_rest_ends(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, limits: dict[str, float], pours: int
) -> None:
    gevent.killall(hub._tasks)
    fanout, began = hub.fanout, time.monotonic()
    for name, limit in limits.items():
        monkeypatch.setattr(f"webapp.hub.dispatcher.{name}", limit)
    fanout.window.append(publish(hub, "a", "b"))
    rest = gevent.spawn(fanout._gathered, began, 60)
    while pours and not rest.ready():
        pours -= 1
        fanout.window.append(publish(hub, "more"))
        fanout._arrived.set()
        gevent.sleep(0.005)
    assert rest.get(timeout=10)
    assert time.monotonic() < began + 10


STEPS = st.lists(
    st.sampled_from(["publish", "publish other", "breathe", "join", "cut", "resume"]), max_size=60
)


class Life:
    """A reader over all its connections."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.readers = [Reader(subscribe(hub, cursor="earliest"))]

    def cut(self) -> None:
        self.readers[-1].task.kill()

    def resume(self) -> None:
        self.cut()
        ids = [m.id for reader in self.readers for m in reader.messages()]
        self.readers.append(Reader(subscribe(self.hub, cursor=ids[-1] if ids else "earliest")))

    def check(self, published: list[str]) -> None:
        if self.readers[-1].task.dead:
            self.resume()
        with gevent.Timeout(10):
            while len(self.data()) < len(published):
                gevent.sleep(0)
        gevent.sleep(0.001)
        assert self.data() == published
        types = {m.type for reader in self.readers for m in reader.messages()}
        assert types <= {"hub.open", "message", "hub.mark"}
        self.readers[-1].leave()

    def data(self) -> list[str]:
        return [data for reader in self.readers for data in reader.data()]


@settings(max_examples=100, deadline=None)
@given(STEPS, st.integers(1, 30))
def test_however_steps_interleave_every_reader_gets_the_sequence(
    steps: list[str], window: int
) -> None:
    hub = make_hub(window_events=window, history_events=1000)
    published: list[str] = []
    lives = [Life(hub)]
    for step in steps:
        if step == "publish":
            published.append(str(len(published)))
            publish(hub, published[-1])
        elif step == "publish other":
            publish(hub, "unseen", topic="other")
        elif step == "breathe":
            gevent.sleep(0)
        elif step == "join":
            lives.append(Life(hub))
        else:
            (Life.cut if step == "cut" else Life.resume)(lives[-1])
    for life in lives:
        life.check(published)
    hub.stop()


def event(number: int, size: int = 1) -> Event:
    return Event(EventId(number, 0), Draft(topics=("t",), data="x" * size))


@given(st.lists(st.integers(1, 50), max_size=60), st.integers(1, 10), st.integers(20, 2000))
def test_a_window_is_the_newest_run_within_its_bounds(
    sizes: list[int], max_events: int, max_bytes: int
) -> None:
    window = Window(EventId(0, 0), max_events, max_bytes)
    model: list[Event] = []
    for number, size in enumerate(sizes, 1):
        model.append(event(number, size))
        window.append([model[-1]])
        window.trim()
        kept = window.after(window.floor)
        assert kept == model[-len(kept) :]
        assert len(kept) <= max_events
        assert len(kept) == 1 or sum(len(e.frame) for e in kept) <= max_bytes
        assert window.head == model[-1].position
        for e in kept:
            assert window.position_of(str(e.position))
            assert window.after(e.position) == [k for k in kept if k.position > e.position]
            assert window.before(e.position, 3) == [k for k in kept if k.position < e.position][-3:]
            assert len(window.after(window.floor, 1)) == 1


def test_a_window_counts_the_memory_of_many_topics() -> None:
    topics = tuple(f"{number:01000}" for number in range(100))
    window = Window(EventId(0, 0), 1000, 1 << 20)
    window.append([Event(EventId(n, 0), Draft(topics=topics)) for n in range(1, 20)])
    window.trim()
    assert len(window) == 9
    assert len(window.after(window.floor, 350_000)) == 4  # an envelope would name them all


def test_an_envelope_is_made_once_for_all_feeds_that_may_see_the_same_topics() -> None:
    draft = Draft(topics=("a", "b"), data="x", private=True)
    event, nobody = Event(EventId(1, 0), draft), frozenset[str]()
    made: dict[EventId, bytes] = {}
    feeds = [
        Feed(frozenset({"*"}), granted, envelope=envelope)
        for envelope in (False, True)
        for granted in (nobody | {"*"}, nobody | {"a", "b"}, nobody | {"b", "other"})
    ]
    *plain, one, same, part = [feed.frames([event], made) for feed in feeds]
    assert set(plain) == {event.frame}
    assert (one, list(made.values())) == (same, [one])
    [told, partly] = [json.loads(next(sse.decode([frame])).data) for frame in (one, part)]
    assert (told["topic"], told["topics"]) == ("a", ["a", "b"])
    assert (partly["topic"], partly["topics"]) == ("b", ["b"])


def test_readers_with_and_without_envelopes_have_a_feed_each(hub: Hub) -> None:
    grant, topics = Grant(), frozenset({"t"})
    readers = [
        Reader(hub.subscribe(topics, grant, Start(), envelope=it)) for it in (True, True, False)
    ]
    gevent.sleep(0.01)
    assert len(hub._feeds) == 2
    [event] = publish(hub, "x")
    about = f'"time":{event.position.ms},"private":false,"data":"x"'
    text = f'{{"id":"{event.id}","topic":"t","topics":["t"],"type":null,{about}}}'
    assert [reader.await_data(1) for reader in readers[:2]] == [[text], [text]]
    assert readers[2].await_data(1) == ["x"]
    for reader in readers:
        reader.leave()
    assert not list(hub._feeds)


def test_ids_never_go_backwards_whatever_the_clock_does() -> None:
    position = EventId(1000, 5)
    assert position.next(2000) == (2000, 0)
    assert position.next(1000) == (1000, 6)
    assert position.next(10) == (1000, 6)


def test_the_log_forgets_by_age_and_with_it_the_own_ids() -> None:
    broker = MemoryBroker(100, 1 << 20, max_age=0.4)
    older, old = broker.append([Draft(topics=("t",), id="a"), Draft(topics=("t",), id="b")])
    assert [broker.position_of("a"), broker.position_of("b")] == [older.position, old.position]
    gevent.sleep(0.41)
    assert broker.bounds() == (old.position, old.position)
    assert broker.position_of("a") is None
    assert broker.position_of("b") == old.position  # the floor is still a place to come back to
    [new] = broker.append([Draft(topics=("t",), id="b", data="other")])
    assert new.position > old.position
    assert broker.position_of("b") == new.position


def test_publishers_that_are_faster_than_the_follower_wait_and_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broker = LaggingBroker()
    hub = make_hub(broker)
    publish(hub, *["x" * 1000] * 1500)
    gevent.sleep(0)
    waiting = gevent.spawn(publish, hub, "waits")
    gevent.sleep(0.01)
    assert not waiting.dead
    broker.released.set()
    waiting.join(10)
    assert waiting.value
    gevent.sleep(0.05)
    broker.released.clear()
    publish(hub, *["x" * 1000] * 1500)
    monkeypatch.setattr("webapp.brokers.memory._PUBLISH_TIMEOUT_S", 0.01)
    with pytest.raises(ServiceUnavailable):
        publish(hub, "gives up")
    broker.released.set()
    hub.stop()


def test_a_follower_that_always_fails_is_told_and_not_silent(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webapp.tasks._LONGEST_PAUSE_S", 0.001)

    class Broken(MemoryBroker):
        def follow(self, after: EventId) -> Iterator[list[Event] | Gap]:
            raise RuntimeError(str(after))

    hub = make_hub(Broken(10, 1000, 10))
    hub.start()
    with gevent.Timeout(PATIENCE):
        while not hub.failed:
            gevent.sleep(0.001)
    assert "the hub is broken" in caplog.text
    hub.stop()


class CountingBroker(MemoryBroker):
    """A log that counts how often it is read."""

    def __init__(self) -> None:
        super().__init__(10_000, 1 << 20, 3600)
        self.asked = 0

    def read(self, after: EventId, max_bytes: int) -> list[Event]:
        self.asked += 1
        return super().read(after, max_bytes)

    def position_of(self, id: str) -> EventId | None:
        self.asked += 1
        return super().position_of(id)


def test_a_thousand_readers_that_come_back_after_a_deploy_do_not_ask_the_log() -> None:
    broker = CountingBroker()
    events = broker.append([Draft(topics=("t",), data=str(n), id=f"id {n}") for n in range(100)])
    hub = make_hub(broker)  # of the process that was deployed
    hub.start()
    cursors = [str(events[50].position), events[50].id]
    readers = [Reader(subscribe(hub, cursor=cursors[n % 2])) for n in range(1000)]
    for reader in readers:
        assert reader.await_data(49) == [str(n) for n in range(51, 100)]
    assert broker.asked == 0
    for reader in readers:
        reader.leave()
    hub.stop()


def test_the_newest_of_a_rare_topic_are_not_looked_for_in_all_of_the_log() -> None:
    hub = make_hub(window_events=100)
    publish(hub, "long ago", topic="rare")
    publish(hub, *map(str, range(2000)))
    [newest] = publish(hub, "lately", topic="rare")
    with gevent.Timeout(10):
        while hub.fanout.window.head < newest.position:
            gevent.sleep(0.001)
    readers = [Reader(subscribe(hub, "rare", last=last)) for last in (1, 2)]
    publish(hub, "now", topic="rare")
    for reader in readers:
        assert reader.await_data(2) == ["lately", "now"]
        reader.leave()
    hub.stop()


class SlowBroker(MemoryBroker):
    """A log that takes its time for a page, and may be away."""

    away = False
    reads = reading = most = 0

    def read(self, after: EventId, max_bytes: int) -> list[Event]:
        self.reads, self.reading = self.reads + 1, self.reading + 1
        self.most = max(self.most, self.reading)
        gevent.sleep(0.03)
        self.reading -= 1
        if self.away:
            detail = "It is away."
            raise ServiceUnavailable(detail, "Wait.")
        return super().read(after, max_bytes)


def test_of_many_readers_that_catch_up_few_read_the_log_at_once_or_wait_for_it_in_vain() -> None:
    assert one_of_three(reads_in_vain, lambda reads: reads < 20) < 20


def reads_in_vain() -> int:
    """Let many readers catch up with a log that is away for a while."""
    broker = SlowBroker(10_000, 1 << 30, 3600)
    broker.append([Draft(topics=("t",), data=str(n)) for n in range(100)])
    hub = make_hub(broker, window_events=10, heartbeat=0.5)
    broker.away = True
    readers = [Reader(subscribe(hub, cursor="earliest")) for _ in range(50)]
    with gevent.Timeout(10):
        while not all(sse.HEARTBEAT in reader.raw for reader in readers):
            gevent.sleep(0.001)
    reads = broker.reads
    broker.away = False
    for reader in readers:
        assert reader.await_data(100) == [str(n) for n in range(100)]
        reader.leave()
    assert broker.most == 2
    hub.stop()
    return reads


def test_a_reader_that_looks_through_a_long_past_for_nothing_hears_how_far_it_is() -> None:
    hub = make_hub(SlowBroker(10_000, 1 << 30, 3600), window_events=100, heartbeat=0.02)
    events = publish(hub, *map(str, range(9000)))
    reader = Reader(subscribe(hub, "rare", cursor="earliest"))
    with gevent.Timeout(10):
        while reader.subscription not in reader.subscription.feed.parked:
            gevent.sleep(0.001)
    marks = [EventId.parse(m.id) for m in reader.messages() if m.type == "hub.mark"]
    assert marks == sorted(set(marks))  # type: ignore[type-var] # all are places
    assert marks
    assert any(event.position == marks[0] for event in events)
    reader.leave()
    hub.stop()


class TornBroker(MemoryBroker):
    """A log that loses its end where it is told to."""

    def follow(self, after: EventId) -> Iterator[list[Event] | Gap]:
        for events in super().follow(after):
            assert not isinstance(events, Gap)
            torn = events[-1].draft.data == "torn"
            yield Gap(events[-1].position, "unknown") if torn else events


def test_every_reader_is_told_of_a_gap_in_the_log_and_goes_on_after_it() -> None:
    hub = make_hub(TornBroker(10_000, 1 << 20, 3600))
    hub.start()
    readers = [Reader(subscribe(hub)) for _ in range(3)]
    gevent.sleep(0)
    publish(hub, "before")
    for reader in readers:
        reader.await_data(1)
    [torn] = publish(hub, "torn")
    gevent.sleep(0.01)
    publish(hub, "after")
    for reader in readers:
        reader.await_data(2)
        messages = [(m.type, m.data) for m in reader.messages()[1:]]
        reset = ("hub.reset", '{"reason": "unknown"}')
        assert messages == [("message", "before"), reset, ("message", "after")]
        assert reader.messages()[2].id == str(torn.position)
        reader.leave()
    hub.stop()


def test_what_is_too_old_is_in_no_window_either() -> None:
    hub = make_hub(history_age=0.4, heartbeat=0.05)
    publish(hub, "old")
    reader = Reader(subscribe(hub, "quiet"))
    gevent.sleep(0.01)
    assert len(hub.fanout.window) == 1
    with gevent.Timeout(10):
        while len(hub.fanout.window):
            gevent.sleep(0.01)
    late = Reader(subscribe(hub, last=5))
    gevent.sleep(0.05)
    assert late.data() == []
    for each in (reader, late):
        each.leave()
    hub.stop()


def test_a_reader_that_heartbeats_wake_is_not_behind_what_it_does_not_see() -> None:
    hub = make_hub(window_events=4, history_events=4, heartbeat=0.01)
    reader = Reader(subscribe(hub, "quiet"))
    for _ in range(30):
        publish(hub, "unseen", "unseen", topic="busy")
        gevent.sleep(0.005)
    publish(hub, "seen", topic="quiet")
    assert reader.await_data(1) == ["seen"]
    assert sse.HEARTBEAT in reader.raw
    assert "hub.reset" not in {m.type for m in reader.messages()}
    reader.leave()
    hub.stop()


def test_counting_what_was_missed_does_not_hold_up_the_first_bytes(hub: Hub) -> None:
    start = publish(hub, "first")[0].id
    publish(hub, *map(str, range(100)))
    gevent.sleep(0.01)
    few = next(subscribe(hub, cursor=start).frames())
    publish(hub, *map(str, range(1000)))
    gevent.sleep(0.01)
    many = next(subscribe(hub, cursor=start).frames())
    assert b'"replay": 100,' in few
    assert b'"replay": null,' in many
