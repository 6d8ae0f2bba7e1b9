"""No input ends what lives as long as the worker, and none is in the way of another's."""

from __future__ import annotations

import json
from contextlib import ExitStack, suppress
from itertools import count
from typing import TYPE_CHECKING, Any

import gevent
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from support import hostile_input
from support.hub import Reader, make_hub, publish, subscribe
from support.redis_server import running_log
from support.tokens import KEY
from support.waiting import PATIENCE
from webapp import tasks
from webapp.auth.authorizer import Grant
from webapp.brokers.memory_presence import MemoryPresenceStore
from webapp.brokers.presence_base import JOINED, LEFT, MAX_NOTICES
from webapp.core.events import Event, HubDraft, TransientEvent
from webapp.errors import BadRequest
from webapp.hub.history import Start
from webapp.presence.changes import Changes
from webapp.presence.service import Presence
from webapp.views.presence import _listing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.server import Server
    from support.stream import Stream
    from webapp.hub.hub import Hub

WATCHED = f"{hostile_input.path_of('')[:-1]}{{/topic}}{{/subscriber}}"
AUTH = {"Authorization": f"Bearer {hostile_input.ALL}"}
EXAMPLES = settings(
    max_examples=20,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
LONG = "/" * 1024
HALF = {
    "mercure": {"subscribe": ["x"], "payload": {"a": "\ud83d", "b": float("nan")}},
    "sub": "\ud83d",
}
numbers = count()


class Pair:
    """Two hubs that share a log, with a subscriber and a watcher of presence on each."""

    def __init__(self, hubs: list[Server], write: Callable[[Any], None], stack: ExitStack) -> None:
        self.hubs, self._write = hubs, write
        self._good = [stack.enter_context(hub.listen(topic="good")) for hub in hubs]
        self._watchers = [
            stack.enter_context(hub.listen(headers=AUTH, topic=WATCHED)) for hub in hubs
        ]
        for stream in (*self._good, *self._watchers):
            assert stream.next().type == "hub.open"

    def survives(self, items: list[Any]) -> None:
        """Let items come; then all is as it was."""
        for item in items:
            hostile_input.strike(self.hubs, self._write, item)
        told = [f"told {next(numbers)}" for _ in self.hubs]
        for hub, text in zip(self.hubs, told, strict=True):
            answer = hub.http.post("/events", data={"topic": "good", "data": text}, headers=AUTH)
            assert answer.status_code == 200, answer.text
        for stream in self._good:
            assert [_next(stream, "told ") for _ in told] == told
        topic = f"here {next(numbers)}"
        with self.hubs[0].listen(topic=topic):
            for stream in self._watchers:
                self._await(stream, topic, active=True)
            assert self._lists(topic)
            assert self.hubs[1].http.get(hostile_input.path_of("")[:-1], headers=AUTH).json()
        for stream in self._watchers:
            self._await(stream, topic, active=False)
        for hub in self.hubs:
            assert hub.log.count("Booting worker") == 1, hub.log

    def _lists(self, topic: str) -> bool:
        listing = self.hubs[1].http.get(hostile_input.path_of(topic), headers=AUTH).json()
        return [it["topic"] for it in listing["subscriptions"]] == [topic]

    def _await(self, stream: Stream, topic: str, *, active: bool) -> None:
        """Await that a watcher is told of a topic, or that it missed some and finds it listed."""
        while True:
            message = stream.next()
            if message.type == "hub.reset":
                if self._lists(topic) is active:
                    return
            elif message.type == "message":
                about = json.loads(message.data)
                if (about["topic"], about["active"]) == (topic, active):
                    return


def _next(stream: Stream, beginning: str) -> str:
    while not (text := stream.take(1)[0]).startswith(beginning):
        pass
    return text


@pytest.fixture(name="pair", scope="module", params=["sqlite", "redis"])
def _pair(
    request: pytest.FixtureRequest,
    serve: Callable[..., Server],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Pair]:
    folder: Path = tmp_path_factory.mktemp("log")
    with ExitStack() as stack:
        if request.param == "redis":
            server = stack.enter_context(running_log("redis-server", folder))
            url, write = server.url, hostile_input.InServer(server).write
        else:
            url, write = f"sqlite:///{folder}/log.db", hostile_input.InFile(folder / "log.db").write
        hubs = [serve(TIDINGS_JWT_KEY=KEY, TIDINGS_BROKER_URL=url) for _ in range(2)]
        yield Pair(hubs, write, stack)


@EXAMPLES
@given(st.lists(hostile_input.items, min_size=1, max_size=6))
@example([hostile_input.Subscribe([LONG, "%" * 990], HALF)])
@example(
    [
        hostile_input.Notice("", 0),
        hostile_input.Notice("#inf [", "x"),
        hostile_input.Notice("!5", 2**62),
    ]
)
@example(
    [
        hostile_input.Row("\n5 []", 0),
        hostile_input.Row("[" * 5000, "x"),
        hostile_input.Row("\ud83d", -1),
    ]
)
@example([hostile_input.Row("", it) for it in (2**63 - 1, float("inf"), 2**63 - 1, "x", -1)])
@example(
    [
        hostile_input.Listed("\ud83d", '{"topics": [5], "payload": NaN}'),
        hostile_input.Listed("", "{"),
    ]
)
@example([hostile_input.Revoked('["token", {}, "x"]', 2**62), hostile_input.Revoked("[", 2**62)])
def test_two_hubs_that_share_a_log_survive_whatever_comes(pair: Pair, items: list[Any]) -> None:
    pair.survives(items)


def alive(hub: Hub) -> bool:
    return not hub.failed and not any(task.dead for task in hub._tasks)


@pytest.fixture(name="roster")
def _roster() -> MemoryPresenceStore:
    return MemoryPresenceStore()


@pytest.fixture(name="hub")
def _hub(roster: MemoryPresenceStore) -> Iterator[Hub]:
    hub = make_hub()
    hub.presence = Presence(hub, roster, lease=0.6)
    hub.observers.append(hub.presence)
    hub.start()
    yield hub
    hub.stop()


def watch(hub: Hub) -> Reader:
    grant = Grant(subscribe=frozenset({"*"}))
    return Reader(hub.subscribe(frozenset({WATCHED}), grant, Start()))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(hostile_input.notices | hostile_input.rows, max_size=5),
    st.lists(hostile_input.texts, min_size=1, max_size=3),
    hostile_input.texts,
    hostile_input.values,
)
def test_one_hub_survives_every_notice_and_claim(
    hub: Hub,
    roster: MemoryPresenceStore,
    told: list[str],
    topics: list[str],
    sub: str,
    payload: Any,
) -> None:
    watcher, guests = watch(hub), list[Reader]()
    for notice in told:
        roster.broadcast(notice)
    grant = Grant(subject=sub, payload=payload, token_id=sub)
    with suppress(BadRequest):  # too many variables
        guests.append(Reader(hub.subscribe(frozenset(topics), grant, Start())))
    good = Reader(subscribe(hub, "good"))
    gevent.sleep(0.001)
    publish(hub, "one", "two", topic="good")
    assert good.await_data(2) == ["one", "two"]
    with gevent.Timeout(PATIENCE):
        while good.subscription.name not in "".join(watcher.data()):
            gevent.sleep(0.001)
    hub.measure()
    for reader in (watcher, good, *guests):
        reader.leave()
    assert alive(hub)


def test_what_is_told_of_a_subscriber_is_json_whatever_its_token_holds(hub: Hub) -> None:
    watcher = watch(hub)
    gevent.sleep(0.01)
    payload = {"a": [float("nan"), 1], "b": "\ud83d"}
    guest = Reader(hub.subscribe(frozenset({LONG}), Grant(payload=payload), Start()))
    with gevent.Timeout(PATIENCE):
        while guest.subscription.name not in "".join(watcher.data()):
            gevent.sleep(0.001)
    told = json.loads(watcher.data()[-1], parse_constant=pytest.fail)
    assert told["id"].startswith(hostile_input.path_of(LONG))
    assert told["payload"] == {"a": [None, 1], "b": "\ud83d"}
    guest.leave()
    watcher.leave()
    assert alive(hub)


# The dispatcher


def test_a_socket_that_fails_in_an_unknown_way_ends_its_own_stream_only(hub: Hub) -> None:
    readers = [Reader(subscribe(hub, "t")) for _ in range(3)]
    gevent.sleep(0.01)

    def fail(_: object, __: bytes) -> int:
        raise RuntimeError

    readers[1].subscription.send = fail
    publish(hub, "a", "b")
    assert readers[0].await_data(2) == readers[2].await_data(2) == ["a", "b"]
    readers[1].task.join(PATIENCE)
    assert readers[1].subscription.reason == "error"
    assert alive(hub)


def test_an_event_that_a_feed_cannot_form_is_left_out_for_that_feed_only(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Reader(subscribe(hub, "t"))
    wrapped = Reader(hub.subscribe(frozenset({"t"}), Grant(), Start(), envelope=True))
    gevent.sleep(0.01)
    form = Event.envelope_frame

    def fail(event: Event, topics: tuple[str, ...]) -> bytes:
        if event.draft.data == "bad":
            raise RuntimeError
        return form(event, topics)

    monkeypatch.setattr(Event, "envelope_frame", fail)
    publish(hub, "a", "bad", "b")
    publish(hub, "c")
    assert plain.await_data(4) == ["a", "bad", "b", "c"]
    assert [json.loads(it)["data"] for it in wrapped.await_data(3)] == ["a", "b", "c"]
    assert alive(hub)


@pytest.mark.parametrize("parts", ["frames", "_send"])
def test_what_the_dispatcher_cannot_give_is_read_by_the_subscribers_themselves(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, parts: str
) -> None:
    readers = [Reader(subscribe(hub, it)) for it in ("t", "t", "u")]
    gevent.sleep(0.01)
    failed = []

    def once(*_: Any) -> Any:
        failed.append(1)
        monkeypatch.undo()
        raise RuntimeError

    monkeypatch.setattr(
        f"webapp.hub.{'feeds.Feed' if parts == 'frames' else 'dispatcher.Dispatcher'}.{parts}", once
    )
    publish(hub, "a")
    publish(hub, "b", topic="u")
    publish(hub, "c")
    assert readers[0].await_data(2) == readers[1].await_data(2) == ["a", "c"]
    assert readers[2].await_data(1) == ["b"]
    assert failed
    assert alive(hub)


def test_an_observer_that_fails_leaves_nobody_counted(hub: Hub) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError

    hub.observers.insert(0, fail)
    reader = Reader(subscribe(hub, "t"))
    publish(hub, "a")
    gevent.sleep(0.01)
    reader.leave()
    assert len(hub) == 0


# What is left out


def test_what_is_left_out_is_counted_each_time_and_logged_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "_logged", {})
    tasks.uncounted()
    for _ in range(3):
        with tasks.Skipping("demo"):
            int("what a client\nwrote")
    with tasks.Skipping("demo"):
        raise TypeError
    assert tasks.uncounted() == [("demo", 4)]
    assert len(caplog.messages) == 2
    assert "ValueError (test_tasks.py:" in caplog.text
    assert "client" not in caplog.text


def test_a_task_that_fails_begins_anew_and_ends_when_it_returns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tasks, "_LONGEST_PAUSE_S", 0.001)
    outcomes = iter([ValueError, KeyError, None])

    def run() -> None:
        if error := next(outcomes):
            raise error

    tasks.lasting("demo", run).get(timeout=PATIENCE)
    assert list(outcomes) == []
    with pytest.raises(gevent.GreenletExit), tasks.Skipping("demo"):
        raise gevent.GreenletExit


# Presence in parts


def test_many_announcements_are_handed_over_in_parts_while_others_run(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webapp.scheduling._SLICE", 0.0002)
    watcher = watch(hub)
    gevent.sleep(0.01)
    topic, sizes, turns = hostile_input.path_of("t"), list[int](), 0

    def run() -> None:
        nonlocal turns
        while True:
            gevent.sleep(0)
            turns += 1

    other = gevent.spawn(run)
    tell = type(watcher.subscription).tell

    def noted(reader: Any, payload: Any, upto: Any) -> None:
        sizes.append(len(payload.raw))
        tell(reader, payload, upto)

    monkeypatch.setattr(type(watcher.subscription), "tell", noted)
    made = (
        TransientEvent(number, HubDraft(topics=(topic,), data="x" * 200, private=True))
        for number in range(1000, 6000)  # after what presence told itself
    )
    hub.fanout.deliver_announced(made)
    other.kill()
    assert len([it for it in watcher.await_data(5001) if it.startswith("x")]) == 5000
    assert max(sizes) < 100 << 10
    assert turns > 50


def test_those_who_left_are_written_down_before_those_who_come() -> None:
    changes = Changes()
    changes.came("early", "", "text")
    taken = changes.take()
    changes.settle(taken)
    for number in range(3000):
        changes.came(str(number), "", "x" * 1000)
    changes.left("early")
    changes.left("7")  # it was never written down, and need not be now
    taken = changes.take()
    assert next(iter(taken.items())) == ("early", None)
    assert "7" not in taken
    changes.restore(taken)
    assert changes.take()["early"] is None


def test_one_address_leaves_room_for_others() -> None:
    changes = Changes()
    for number in range(10):
        changes.came(f"a{number}", "a", "x" * (1 << 20))
    changes.came("b", "b", "x" * (1 << 20))
    names = set[str]()
    while taken := changes.take():
        names |= taken.keys()
    assert names == {"b", *(f"a{number}" for number in range(6))}
    for number in range(10):
        changes.left(f"a{number}")
    changes.came("c", "a", "x")
    assert "c" in changes.take()


def test_notices_are_read_in_parts_and_none_is_lost() -> None:
    roster = MemoryPresenceStore()
    told = [f"{sign}{number} {'x' * 3000}" for number in range(100) for sign in (JOINED, LEFT)]
    for notice in told:
        roster.broadcast(notice)
    found, upto, parts = list[str](), 0, 0
    while (news := roster.notices_after(upto)).notices:
        assert news.complete
        assert sum(map(len, news.notices)) < 100 << 10
        found, upto, parts = found + news.notices, news.last_number, parts + 1
    assert found == told
    assert parts > 5


def test_the_first_change_after_some_were_missed_is_told(
    hub: Hub, roster: MemoryPresenceStore
) -> None:
    watcher = watch(hub)
    with gevent.Timeout(PATIENCE):
        while not watcher.data():
            gevent.sleep(0.001)
    for _ in range(MAX_NOTICES + 1):
        roster.broadcast("![]")
    with gevent.Timeout(PATIENCE):
        while "hub.reset" not in [it.type for it in watcher.messages()]:
            gevent.sleep(0.001)
    guest = Reader(subscribe(hub, "t"))
    with gevent.Timeout(PATIENCE):
        while guest.subscription.name not in "".join(watcher.data()):
            gevent.sleep(0.001)


def test_a_damaged_row_of_a_subscriber_is_listed_for_no_topic(
    hub: Hub, roster: MemoryPresenceStore
) -> None:
    roster.heartbeat({"a": "{", "b": '{"topics": ["t"], "payload": null}'})
    assert hub.presence
    assert [name for name, _ in hub.presence.subscribers("t")] == ["b"]


def test_a_listing_is_made_in_parts_without_what_is_damaged() -> None:
    topics = [f"/t/{number:03}/{'/' * 50}" for number in range(100)]
    text = json.dumps({"topics": topics, "payload": None})
    found = [*[(f"urn:uuid:{number}", text) for number in range(30)], ("urn:uuid:x", "{")]
    parts = list(_listing({"id": "all"}, found, None))
    listing = json.loads("".join(parts))
    assert len(listing["subscriptions"]) == 3000
    assert len(parts) > 10
    assert max(map(len, parts)) < 128 << 10


@pytest.mark.parametrize("position", ["9999999999999999999-7", "18446744073709551615-5"])
def test_an_entry_at_a_place_far_ahead_ends_no_follower(
    serve: Callable[..., Server], tmp_path: Path, position: str
) -> None:
    with running_log("redis-server", tmp_path) as log:
        hub = serve(TIDINGS_OPEN="1", TIDINGS_BROKER_URL=log.url)
        with hub.listen(topic="t") as stream:
            assert stream.next().type == "hub.open"
            hub.publish("before", topic="t")
            log.ask("XADD", "{tidings}:log", position, "draft", '["no event"]')
            hub.publish("after", topic="t")
            assert stream.take(2) == ["before", "after"]
        with hub.listen(topic="t", last_event_id="earliest") as stream:
            assert stream.take(2) == ["before", "after"]
        with hub.listen(topic="t", last="2") as stream:
            assert stream.take(2) == ["before", "after"]
        assert hub.log.count("Booting worker") == 1
        hub.stop()
