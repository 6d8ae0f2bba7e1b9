"""The dispatcher and its follower: pauses, back-pressure and failures."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import gevent
import pytest
from gevent.event import Event

from support.hub import LaggingBroker, Subscriber, make_hub, publish, subscribe, until_read
from support.waiting import PATIENCE
from webapp.brokers.memory import MemoryBroker
from webapp.core.events import Draft
from webapp.errors import ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from webapp.brokers.base import Followed
    from webapp.core.events import Event as LogEvent
    from webapp.core.events import EventId
    from webapp.hub.hub import Hub


def test_the_follower_waits_before_the_window_drops_events() -> None:
    hub = make_hub(window_events=5)
    hub.start()
    subscribers = [Subscriber(subscribe(hub)) for _ in range(3)]
    gevent.sleep(0.01)
    numbers = [str(n) for n in range(500)]
    publish(hub, *numbers)
    for subscriber in subscribers:
        assert subscriber.await_data(500) == numbers
        assert "hub.reset" not in {m.type for m in subscriber.messages()}
        subscriber.leave()
    with gevent.Timeout(PATIENCE):
        while len(hub.window) > 5:
            gevent.sleep(0.001)
    hub.stop()


def test_the_follower_reads_little_ahead_of_the_dispatcher(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken, released = list[str](), Event()

    class Batches(MemoryBroker):
        def follow(self, after: EventId) -> Iterator[Followed]:
            for batch in super().follow(after):
                assert isinstance(batch, list)
                for event in batch:
                    yield [event]
                    taken.append(event.draft.data)

    hub = make_hub(Batches(1000, 1 << 20, 3600))
    hub.start()
    subscriber = Subscriber(subscribe(hub))
    gevent.sleep(0.01)
    deliver = hub.dispatcher._deliver

    def deliver_later(batch: list[LogEvent]) -> None:
        released.wait()
        deliver(batch)

    monkeypatch.setattr(hub.dispatcher, "_deliver", deliver_later)
    monkeypatch.setattr(hub.dispatcher, "_pass_seconds", 1.0)  # else the follower delivers itself
    large = [str(n) * 30_000 for n in range(9)]
    publish(hub, *large)
    for _ in range(100):
        gevent.sleep(0)
    assert taken == large[:2]  # the third is in the window
    released.set()
    assert subscriber.await_data(9) == large
    subscriber.leave()
    hub.stop()


def test_what_expires_before_its_delivery_is_not_counted_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub = make_hub()
    hub.start()
    gevent.sleep(0.01)

    def expire() -> None:
        monkeypatch.setattr(hub.window, "_now", lambda: time.time_ns() // 1_000_000 + 2000)
        assert len(list(hub.window.expire())) == 1

    monkeypatch.setattr(hub.dispatcher, "_pause", expire)
    [event] = hub.publish([Draft(topics=("t",), data="x" * 100, ttl=1000)])
    until_read(hub, [event])
    assert hub.fanout.dispatched_up_to == event.position
    assert hub.dispatcher._ahead_bytes == 0
    hub.stop()


def test_the_follower_delivers_itself_unless_passes_are_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub = make_hub()
    hub.start()
    subscriber = Subscriber(subscribe(hub))
    gevent.sleep(0.01)
    deliver, by = hub.dispatcher._deliver, list[object]()

    def note(batch: list[LogEvent]) -> None:
        by.append(gevent.getcurrent())
        deliver(batch)

    monkeypatch.setattr(hub.dispatcher, "_deliver", note)
    follower, dispatcher = hub._tasks[:2]
    for number, (pass_seconds, expected) in enumerate(((0.0, follower), (1.0, dispatcher)), 1):
        monkeypatch.setattr(hub.dispatcher, "_pass_seconds", pass_seconds)
        publish(hub, str(number))
        assert len(subscriber.await_data(number)) == number
        assert by.pop() is expected
        assert not by
    subscriber.leave()
    hub.stop()


def test_one_task_delivers_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    hub, released = make_hub(), Event()
    hub.start()
    subscriber = Subscriber(subscribe(hub))
    gevent.sleep(0.01)
    deliver, begun = hub.dispatcher._deliver, list[str]()

    def deliver_later(batch: list[LogEvent]) -> None:
        begun.extend(event.draft.data for event in batch)
        released.wait()
        deliver(batch)

    monkeypatch.setattr(hub.dispatcher, "_deliver", deliver_later)
    publish(hub, "a")
    while not begun:
        gevent.sleep(0)
    hub.dispatcher._events_arrived.set()  # as for events that come during a long pass
    publish(hub, "b")
    for _ in range(100):
        gevent.sleep(0)
    assert begun == ["a"]
    released.set()
    assert subscriber.await_data(2) == ["a", "b"]
    subscriber.leave()
    hub.stop()


def test_the_dispatcher_delivers_what_a_failed_follower_did_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub = make_hub()
    hub.start()
    subscriber = Subscriber(subscribe(hub))
    gevent.sleep(0.01)
    next_batch, failed = hub.dispatcher._next_batch, Event()

    def fail_once() -> list[LogEvent]:
        if not failed.is_set():
            failed.set()
            raise RuntimeError
        return next_batch()

    monkeypatch.setattr(hub.dispatcher, "_next_batch", fail_once)
    publish(hub, "a")
    assert subscriber.await_data(1) == ["a"]
    assert failed.is_set()
    subscriber.leave()
    hub.stop()


def test_events_that_pour_in_share_the_writes_of_long_passes(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub.dispatcher._idle_clock, "seconds", lambda: 0.0)
    send, passes = hub.dispatcher._deliver, list[int]()

    def send_for_long(batch: list[LogEvent]) -> None:
        passes.append(len(batch))
        time.sleep(0.01)  # the loop stands still, as in a pass to a thousand subscribers
        send(batch)

    monkeypatch.setattr(hub.dispatcher, "_deliver", send_for_long)
    subscriber = Subscriber(subscribe(hub))
    gevent.sleep(0.01)
    numbers = [str(n) for n in range(200)]
    for number in numbers:
        publish(hub, number)
        gevent.sleep(0)
    assert subscriber.await_data(200) == numbers
    with gevent.Timeout(PATIENCE):
        while sum(passes) < 200:
            gevent.sleep(0.001)
    assert len(passes) < 20
    subscriber.leave()


@pytest.mark.parametrize(
    ("seconds", "idle", "paused"),
    [
        (0.0001, 0.0, 0.0),
        (0.004, 0.001, 0.0),
        (0.004, 0.0, 0.012),
        (60, 7.0, 0.0),
        (60, 5.0, 0.03),
    ],
)
def test_after_a_long_pass_the_dispatcher_pauses_for_a_bounded_time_if_cpu_is_short(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, seconds: float, idle: float, paused: float
) -> None:
    monkeypatch.setattr(hub.dispatcher._idle_clock, "seconds", lambda: idle)
    assert sum(_pauses(hub, monkeypatch, seconds)) == pytest.approx(paused)


def test_events_that_come_after_the_pause_are_delivered_at_once(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub.dispatcher._idle_clock, "seconds", lambda: 0.0)
    assert sum(_pauses(hub, monkeypatch, 0.02, ended=-1)) == 0


@pytest.mark.parametrize(
    ("seconds", "events", "paused"),
    [(0.004, 1000, 0.012), (0.02, 1000, 0.06), (60, 1000, 0.1), (60, 4, 0.045)],
)
def test_it_pauses_longer_until_the_end_of_a_burst(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, seconds: float, events: int, paused: float
) -> None:
    monkeypatch.setattr(hub.dispatcher._idle_clock, "seconds", lambda: 0.0)
    assert sum(_pauses(hub, monkeypatch, seconds, events)) == pytest.approx(paused)


def _pauses(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, seconds: float, events: int = 0, ended: float = 0.0
) -> list[float]:
    """Return for how long the dispatcher pauses.

    :param seconds: that the last pass took.
    :param events: that come, one in each pause.
    :param ended: when the pass ended; it is 0 now.
    """
    pauses, window = list[float](), SimpleNamespace(head=0)

    def sleep(pause: float) -> None:
        pauses.append(pause)
        window.head = min(events, len(pauses))

    monkeypatch.setattr("webapp.hub.delivery.dispatcher.sleep", sleep)
    monkeypatch.setattr("webapp.hub.delivery.dispatcher.monotonic", lambda: sum(pauses))
    monkeypatch.setattr(hub.dispatcher, "_window", window)
    hub.dispatcher._pass_seconds, hub.dispatcher._pass_ended = seconds, ended
    hub.dispatcher._pause()
    return pauses


def test_events_that_come_one_by_one_are_read_together_while_cpu_is_short(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "webapp.hub.delivery.dispatcher.thread_time", time.monotonic
    )  # it always runs
    monkeypatch.setattr("webapp.hub.delivery.dispatcher._GATHER_S", 0.05)
    monkeypatch.setattr("webapp.hub.delivery.dispatcher._SHORT_PASS_S", PATIENCE)
    deliver, passes = hub.dispatcher._deliver, list[int]()

    def count(batch: list[LogEvent]) -> None:
        passes.append(len(batch))
        deliver(batch)

    monkeypatch.setattr(hub.dispatcher, "_deliver", count)
    subscriber = Subscriber(subscribe(hub))
    gevent.sleep(0.01)
    numbers = [str(n) for n in range(50)]
    for number in numbers:
        publish(hub, number)
        gevent.idle()
    assert subscriber.await_data(50) == numbers
    assert passes[0] == 1  # nothing waits after a silence
    assert len(passes) < 25
    subscriber.leave()


def test_events_are_gathered_only_if_batches_come_fast_and_cpu_is_short(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = list[float]()
    monkeypatch.setattr("webapp.hub.delivery.dispatcher.sleep", pauses.append)
    now, cpu = 100.0, 10.0
    monkeypatch.setattr("webapp.hub.delivery.dispatcher.monotonic", lambda: now)
    monkeypatch.setattr("webapp.hub.delivery.dispatcher.thread_time", lambda: cpu)
    gathered = []
    for elapsed, ran in ((9, 9), (0.001, 0.0009), (0.001, 0.0001), (0.02, 0.02)):
        now, cpu, before = now + elapsed, cpu + ran, len(pauses)
        hub.dispatcher._gather()
        gathered.append(len(pauses) > before)
    assert gathered == [False, True, False, False]
    assert max(pauses) <= 0.002


def test_publishers_faster_than_the_follower_wait_or_are_refused(
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
    waiting.join(PATIENCE)
    assert waiting.value
    gevent.sleep(0.05)
    broker.released.clear()
    publish(hub, *["x" * 1000] * 1500)
    monkeypatch.setattr("webapp.brokers.memory._PUBLISH_TIMEOUT_S", 0.01)
    with pytest.raises(ServiceUnavailable):
        publish(hub, "gives up")
    broker.released.set()
    hub.stop()


def test_a_follower_that_always_fails_is_reported(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webapp.tasks._LONGEST_PAUSE_S", 0.001)

    class Broken(MemoryBroker):
        def follow(self, after: EventId) -> Iterator[Followed]:
            raise RuntimeError(str(after))

    hub = make_hub(Broken(10, 1000, 10))
    hub.start()
    with gevent.Timeout(PATIENCE):
        while not hub.failed:
            gevent.sleep(0.001)
    assert "the hub is broken" in caplog.text
    hub.stop()
