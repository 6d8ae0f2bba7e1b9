"""The hub without a server: registration, grants, and streams in one process."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import gevent
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.hub import Subscriber, make_hub, publish, subscribe
from support.waiting import PATIENCE
from webapp.auth.authorizer import Grant
from webapp.core.events import Draft, EventId
from webapp.hub.delivery.feeds import Form
from webapp.hub.reads.start import Start

if TYPE_CHECKING:
    from webapp.hub.hub import Hub
    from webapp.hub.streams.stream import Stream


def test_all_parts_of_a_hub_are_there_before_it_starts() -> None:
    hub = make_hub()
    assert (len(hub), hub.window.head, hub.dispatcher._window) == (0, EventId(0, 0), hub.window)
    hub.flush_metrics()
    hub.drain()
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
    hub.flush_metrics()
    assert hub.metrics.numbers().by_label("streams_ended_total") == {"error": 1, "client_left": 1}
    assert not list(hub._feeds)
    assert not hub._feeds._exact
    assert not hub._feeds._everything
    assert not hub._feeds.matched_last


def test_streams_that_open_together_let_the_loop_run_between_them(hub: Hub) -> None:
    turns: list[int] = []
    hub._turns.slice_s = 0

    def come() -> None:
        subscribe(hub)
        turns.append(gevent.get_hub().loop.iteration)

    gevent.joinall([gevent.spawn(come) for _ in range(10)])
    assert len(set(turns)) == 10


def test_streams_that_end_together_let_the_loop_run_between_them(hub: Hub) -> None:
    turns = list[int]()
    hub._turns.slice_s = 0

    def read(stream: Stream) -> None:
        list(stream.frames())
        turns.append(gevent.get_hub().loop.iteration)

    streams = [subscribe(hub) for _ in range(10)]
    tasks = [gevent.spawn(read, stream) for stream in streams]
    with gevent.Timeout(PATIENCE):
        while not all(stream.parked for stream in streams):
            gevent.sleep(0.001)
    for stream in streams:
        stream.end("client_left")
    gevent.joinall(tasks, raise_error=True)
    assert len(set(turns)) == len(turns) == 10


def test_private_events_reach_only_those_granted_live_and_on_replay(hub: Hub) -> None:
    publish(hub, "old", private=True)
    publish(hub, "public")
    granted = Subscriber(subscribe(hub, granted="t", cursor="earliest"))
    stranger = Subscriber(subscribe(hub, granted="other", cursor="earliest"))
    publish(hub, "new", private=True)
    publish(hub, "end")
    assert granted.await_data(4) == ["old", "public", "new", "end"]
    assert stranger.await_data(2) == ["public", "end"]
    for subscriber in (granted, stranger):
        subscriber.leave()


def test_a_control_frame_never_carries_the_own_id_of_an_event(hub: Hub) -> None:
    hub.publish([Draft(topics=("t",), id="secret", private=True)])
    gevent.sleep(0.01)
    subscriber = Subscriber(subscribe(hub))
    gevent.sleep(0.01)
    subscriber.subscription.end("kicked")
    subscriber.task.join(PATIENCE)
    assert [m.type for m in subscriber.messages()] == ["hub.open", "hub.bye"]
    assert b"secret" not in b"".join(subscriber.raw)


def test_a_token_that_ends_ends_the_stream(hub: Hub) -> None:
    grant = Grant(subscribe=frozenset({"t"}), expires=1.0)
    subscriber = Subscriber(hub.subscribe(frozenset({"t"}), grant, Start()))
    subscriber.task.join(PATIENCE)
    assert json.loads(subscriber.messages()[-1].data) == {"reason": "token_expired"}


STEPS = st.lists(
    st.sampled_from(["publish", "publish other", "breathe", "join", "cut", "resume"]), max_size=60
)


class Life:
    """A subscriber over all its connections."""

    def __init__(self, hub: Hub, form: Form) -> None:
        self.hub, self.form = hub, form
        self.subscribers = list[Subscriber]()
        self.connect("earliest")

    def connect(self, cursor: str) -> None:
        stream = self.hub.subscribe(frozenset({"t"}), Grant(), Start(cursor), form=self.form)
        self.subscribers.append(Subscriber(stream))

    def cut(self) -> None:
        self.subscribers[-1].task.kill()

    def resume(self) -> None:
        self.cut()
        ids = [m.id for subscriber in self.subscribers for m in subscriber.messages()]
        self.connect(ids[-1] if ids else "earliest")

    def check(self, published: list[str]) -> None:
        if self.subscribers[-1].task.dead:
            self.resume()
        with gevent.Timeout(PATIENCE):
            while len(self.data()) < len(published):
                gevent.sleep(0)
        gevent.sleep(0.001)
        assert self.data() == published
        types = {m.type for subscriber in self.subscribers for m in subscriber.messages()}
        assert types <= {"message", *(["hub.open", "hub.mark"] if self.form.control else [])}
        self.subscribers[-1].leave()

    def data(self) -> list[str]:
        return [data for subscriber in self.subscribers for data in subscriber.data()]


@settings(max_examples=100, deadline=None)
@given(STEPS, st.integers(1, 30))
def test_however_steps_interleave_every_subscriber_gets_the_sequence(
    steps: list[str], window: int
) -> None:
    hub = make_hub(window_events=window, history_events=1000)
    published: list[str] = []
    lives = [Life(hub, Form(control=it)) for it in (True, False)]
    for step in steps:
        if step == "publish":
            published.append(str(len(published)))
            publish(hub, published[-1])
        elif step == "publish other":
            publish(hub, "unseen", topic="other")
        elif step == "breathe":
            gevent.sleep(0)
        elif step == "join":
            lives.append(Life(hub, Form(control=len(lives) % 2 == 0)))
        else:
            (Life.cut if step == "cut" else Life.resume)(lives[-1])
            lives.reverse()
    for life in lives:
        life.check(published)
    hub.stop()
