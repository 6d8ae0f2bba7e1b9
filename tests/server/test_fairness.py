"""What one client asks for costs that client: its turns, its memory, its matching."""

from __future__ import annotations

import json
import re
import socket
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import gevent
import jwt
import pytest
from gevent.event import Event as Signal

from support.hub import make_hub, publish, subscribe
from support.processes import cpu, memory
from support.redis_server import running_log
from support.tokens import KEY
from support.waiting import PATIENCE, until
from webapp.auth.authorizer import Grant
from webapp.brokers.memory import MemoryBroker
from webapp.core import topics
from webapp.core.events import Draft, Event, EventId
from webapp.core.topics import Selectors
from webapp.errors import ServiceUnavailable, TooManyRequests
from webapp.hub import read_queue
from webapp.hub.feeds import Feed
from webapp.hub.history import Start
from webapp.hub.read_queue import Left, Reading, Turns
from webapp.hub.replays import PIECE_BYTES, Replays

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.server import Server
    from webapp.hub.hub import Hub

EVENTS = 6000
SMALL = 4096  # bytes of a receive buffer that is soon full
AT_ALL = {"mercure": {"publish": ["*"], "subscribe": ["*"]}}
TOKEN = {"Authorization": f"Bearer {jwt.encode(AT_ALL, KEY)}"}
NOBODY: frozenset[str] = frozenset()


# Turns


def order(turns: Turns, readings: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return in which order readings of some clients, from some places, have their turns."""
    had: list[tuple[str, int]] = []

    def read(client: str, ms: int) -> None:
        with turns.turn(Reading(client), EventId(ms, 0)):
            had.append((client, ms))

    first = Reading("first")
    with turns.turn(first, EventId(0, 0)):
        tasks = [gevent.spawn(read, *reading) for reading in readings]
        gevent.sleep(0)
        assert not had
    gevent.joinall(tasks, timeout=PATIENCE, raise_error=True)
    return had


def test_clients_take_turns_and_of_each_the_shortest_way_comes_first() -> None:
    turns = Turns(1, lambda _: True)
    readings = [("a", 1), ("a", 2), ("a", 9), ("a", 3), ("b", 5)]
    assert order(turns, readings) == [("a", 9), ("b", 5), ("a", 1), ("a", 3), ("a", 2)]
    assert not turns._waiting


def test_nobody_waits_for_ever_for_shorter_ones() -> None:
    turns = Turns(1, lambda _: True)
    had = order(turns, [("a", 0), *[("a", ms) for ms in range(10, 100)]])
    assert had.index(("a", 0)) < 4


def test_who_is_cancelled_leaves_the_queue_at_once_and_gives_its_turn_back() -> None:
    turns, reading, done = Turns(1, lambda _: True), Reading("a"), []

    def read() -> None:
        with pytest.raises(Left), turns.turn(reading, EventId(1, 0)):
            pass
        done.append(1)

    with turns.turn(Reading("b"), EventId(0, 0)):
        task = gevent.spawn(read)
        gevent.sleep(0)
        reading.cancel()
        task.join(PATIENCE)
        assert done
        assert not turns._waiting
    assert order(turns, [("c", 1)]) == [("c", 1)]


def test_who_may_not_go_on_lets_others_pass() -> None:
    full = {"a"}
    turns = Turns(1, lambda client: client not in full)
    had: list[str] = []

    def read(client: str) -> None:
        with turns.turn(Reading(client), EventId(0, 0)):
            had.append(client)

    tasks = [gevent.spawn(read, client) for client in "ab"]
    gevent.sleep(0.01)
    assert had == ["b"]
    full.clear()
    turns.go_on()
    gevent.joinall(tasks, timeout=PATIENCE, raise_error=True)
    assert had == ["b", "a"]


def test_clients_share_the_time_of_turns_and_not_their_number() -> None:
    now = 0.0
    turns = Turns(1, lambda _: True, lambda: now)
    had: list[str] = []

    def read(client: str, seconds: float) -> None:
        nonlocal now
        with turns.turn(Reading(client), EventId(1, 0)):
            had.append(client)
            now += seconds

    with turns.turn(Reading("first"), EventId(0, 0)):
        tasks = [gevent.spawn(read, "long", 1.0) for _ in range(20)]
        tasks += [gevent.spawn(read, "short", 0.01) for _ in range(20)]
        gevent.sleep(0)
    gevent.joinall(tasks, timeout=PATIENCE, raise_error=True)
    assert had.index("short") == 1
    assert had[:22].count("short") == 20
    assert not turns._used


def test_the_queue_keeps_nothing_of_those_who_left_it() -> None:
    turns = Turns(1, lambda _: True)
    reading = Reading("waits")

    def give_up(reading: Reading) -> None:
        with pytest.raises(Left):
            turns._await(reading)

    with turns.turn(Reading("first"), EventId(0, 0)):
        for number in range(5000):
            one = Reading(str(number))
            gevent.spawn(give_up, one)
            gevent.sleep(0)
            one.cancel()
            gevent.sleep(0)
        waits = gevent.spawn(turns._await, reading)
        gevent.sleep(0)
        assert list(turns._waiting) == list(turns._number) == ["waits"]
        assert len(turns._order) < 2 * read_queue._REMEMBERED_CLIENTS
    waits.join(PATIENCE)
    turns._end(reading, 0.0)
    assert not turns._used


def test_a_turn_ends_in_time_and_the_next_one_goes_on(
    slow: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = publish(slow, *"abcde")
    until_read(slow, events)
    monkeypatch.setattr("webapp.hub.history.TURN_S", -1)
    feed, reading = Feed(frozenset({"t"}), NOBODY, envelope=False), Reading("a")
    found, upto = [], slow.fanout.window.floor
    for event in events:
        look = slow.history.look(feed, reading, upto)
        found += look.seen
        upto = look.upto
        assert upto == event.position
    assert found == events
    start = slow.history.position(Start(last=3), feed, reading)[0]
    assert start == events[1].position


def test_to_look_back_takes_as_many_events_a_turn_as_its_time_allows(
    slow: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = publish(slow, *map(str, range(999)))
    until_read(slow, events)
    monkeypatch.setattr("webapp.hub.history.TURN_S", 1e9)
    monkeypatch.setattr("webapp.hub.history._SCAN", 10)
    granted = slow.history._turns._granted
    feed = Feed(frozenset({"t"}), NOBODY, envelope=False)
    start = slow.history.position(Start(last=900), feed, Reading("a"))[0]
    assert start == events[98].position
    assert slow.history._turns._granted - granted <= 3


def test_a_count_that_would_take_long_is_not_begun(
    slow: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    topics = [[str(number)] for number in range(9)] + [list(map(str, range(600)))]
    events = slow.publish([Draft(topics=tuple(it)) for it in topics])
    until_read(slow, events)
    one, two = (Feed(frozenset({it}), NOBODY, envelope=False) for it in ("{a}", "{a}{b}"))
    assert slow.history.count(one, slow.fanout.window.floor) == 10
    monkeypatch.setattr(two, "matches", lambda _: pytest.fail("it is matched"))
    assert slow.history.count(two, slow.fanout.window.floor) is None


# Before the first byte


class SlowBroker(MemoryBroker):
    """A log that takes its time to find a cursor."""

    def __init__(self) -> None:
        super().__init__(1000, 1 << 30, 3600)
        self.answer = Signal()
        self.steps = 0

    def position_of(self, id: str) -> EventId | None:
        self.answer.wait()
        return super().position_of(id)

    def before(self, position: EventId, limit: int, max_bytes: int) -> list[Event]:
        self.steps += 1
        return super().before(position, limit, max_bytes)


class Socket:
    """The connection of a client that may hang up."""

    write_timed_out = last = False
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


def until_read(hub: Hub, events: list[Event]) -> None:
    with gevent.Timeout(PATIENCE):
        while hub.fanout.window.head < events[-1].position:
            gevent.sleep(0.001)


def opened(hub: Hub, connection: Any, start: Start) -> gevent.Greenlet[..., Any]:
    def open_stream() -> Any:
        try:
            return hub.subscribe(frozenset({"t"}), Grant(), start, "a", connection=connection)
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
    assert task.get(timeout=PATIENCE).lost == "unknown"
    slow.quota.check("a")  # its stream did not open


def test_the_id_of_a_private_event_that_this_process_has_not_reached_is_unknown(slow: Hub) -> None:
    first = publish(slow, "public")
    until_read(slow, first)
    slow.broker.answer.set()  # type: ignore[attr-defined]
    slow.broker.append([Draft(topics=("t",), id="secret", private=True)])
    feed = Feed(frozenset({"t"}), NOBODY, envelope=False)
    assert slow.fanout.window.head == first[0].position
    assert slow.history.position(Start(cursor="secret"), feed, Reading("a"))[1] == "unknown"


def test_who_hangs_up_before_its_stream_begins_is_forgotten_in_the_queue(slow: Hub) -> None:
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
    assert not slow._readings


def test_more_than_the_log_keeps_begins_at_its_floor_without_a_look(slow: Hub) -> None:
    newest = publish(slow, *map(str, range(500)))[-1].position
    while slow.fanout.window.head < newest:
        gevent.sleep(0.001)
    steps = slow.broker.steps  # type: ignore[attr-defined]
    floor = slow.broker.bounds().floor
    assert subscribe(slow, last=999_999_999).cursor == floor
    assert subscribe(slow, last=500).cursor == floor
    assert slow.broker.steps == steps  # type: ignore[attr-defined]
    assert subscribe(slow, last=499).cursor > floor
    assert slow.broker.steps > steps  # type: ignore[attr-defined]


def test_a_count_that_takes_long_is_given_up(slow: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    events = publish(slow, "a", "b")
    gevent.sleep(0.01)
    feed = Feed(frozenset({"t"}), NOBODY, envelope=False)
    before = EventId(events[0].position.ms, -1)
    slow.fanout.window.floor = min(slow.fanout.window.floor, before)
    assert slow.history.count(feed, before) == 2
    monkeypatch.setattr("webapp.hub.history._COUNTING_S", -1)
    assert slow.history.count(feed, before) is None


# Matching


def test_the_variables_of_a_stream_are_bounded_over_all_its_templates(server: Server) -> None:
    def ask(count: int, each: str) -> Any:
        topic = [f"/{number}/{each}" for number in range(count)]
        return server.http.get("/events", params={"topic": topic})

    with server.listen(topic=["/{a}/" + "{b}" * 49]) as stream:
        assert stream.next().type == "hub.open"
    for refused in (ask(51, "{a}"), ask(1, "{" + "a," * 50 + "a}"), ask(26, "{a}{b*}")):
        assert refused.status_code == 400
        assert refused.json()["reason"] == "variables"
        assert "TIDINGS_MAX_VARIABLES" in refused.json()["remedy"]


def test_the_topics_of_an_event_are_bounded_in_bytes(server: Server) -> None:
    def post(count: int, size: int, letter: str = "x") -> Any:
        named = [letter * size + str(number).rjust(4, "0") for number in range(count)]
        return server.http.post("/events", json={"topic": named})

    assert post(1000, 60).status_code == 200
    for refused in (post(1000, 62), post(100, 1000), post(1000, 31, "ü")):
        assert refused.status_code == 413
        assert refused.json()["reason"] == "topic_bytes"


def test_matching_many_topics_lets_others_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webapp.scheduling._SLICE", -1)
    feed = Feed(frozenset({"{a}/{b}"}), NOBODY, envelope=False)
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
    wanted = Selectors(frozenset({"/{a}", "x"}))
    topics._matches.clear()
    for number in range(10_000):
        assert wanted.matches(f"/{number}")
        assert not wanted.matches("y" * 200 + str(number))
        assert wanted.matches("x")
    assert 0 < len(topics._matches) <= topics._MAX_CACHED_MATCHES
    assert max(len(topic) for _, topic in topics._matches) < 100


# Replays


def large(number: int) -> Event:
    return Event(EventId(number, 0), Draft(topics=("t",), data="x" * 3 * PIECE_BYTES))


@pytest.mark.parametrize("envelope", [False, True])
def test_a_large_event_is_encoded_once_and_goes_out_in_pieces(*, envelope: bool) -> None:
    replays = Replays(1 << 30, lambda: None)
    feed = Feed(frozenset({"t"}), NOBODY, envelope=envelope)
    small = Event(EventId(9, 0), Draft(topics=("t",), data="small"))
    made = [replays.replay("a", feed, [large(1), small]) for _ in range(20)]
    assert replays.bytes < 2 * made[0].size + 20 * 2 * PIECE_BYTES
    for replay in made:
        pieces = list(replay)
        assert max(map(len, pieces)) == PIECE_BYTES
        assert b"".join(pieces) == feed.frames([large(1), small], {})
    del made, replay
    assert replays.bytes == 0
    assert not replays._held


def test_one_client_has_half_of_what_is_on_its_way_and_one_with_none_is_always_sent_some() -> None:
    replays = Replays(6 * PIECE_BYTES, lambda: None)
    assert replays.has_room("a")
    replays.hold("a", 3 * PIECE_BYTES)
    assert not replays.has_room("a")
    replays.hold("b", 1)
    assert replays.has_room("b")
    replays.hold("c", 3 * PIECE_BYTES)
    assert not replays.has_room("b")
    assert replays.has_room("d")
    replays.release("a", 3 * PIECE_BYTES)
    assert replays.has_room("a")
    assert replays.has_room("b")


# Real hubs


@pytest.fixture(name="url", params=["sqlite", "redis"], scope="module")
def _url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "sqlite":
        yield f"sqlite:///{folder}/log.db"
        return
    with running_log("redis-server", folder) as server:
        yield server.url


@pytest.fixture(name="long", scope="module")
def _long(url: str, serve: Callable[..., Server]) -> Server:
    """A hub with some thousand events, nearly all of them not at hand."""
    hub = serve(TIDINGS_BROKER_URL=url, TIDINGS_JWT_KEY=KEY, TIDINGS_WINDOW_EVENTS="10")
    for start in range(0, EVENTS, 1000):
        batch = [{"topic": "t", "data": str(n)} for n in range(start, start + 1000)]
        hub.http.post("/events", json=batch, headers=TOKEN).raise_for_status()
    return hub


def ask(stack: ExitStack, server: Server, query: str, buffer: int | None = None) -> socket.socket:
    """Ask for a stream, and read nothing of it."""
    sock = stack.enter_context(socket.socket())
    if buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    sock.settimeout(PATIENCE)
    sock.connect((server.host, server.port))
    sock.sendall(f"GET /events?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return sock


def test_beside_many_that_are_sent_nothing_one_that_was_away_catches_up(long: Server) -> None:
    def catch_up() -> float:
        began = time.monotonic()
        with long.listen(topic="t", last=EVENTS // 2) as reader:
            assert reader.take(EVENTS // 2)[-1] == str(EVENTS - 1)
        return time.monotonic() - began

    alone = min(catch_up() for _ in range(3))
    with ExitStack() as stack:
        for number in range(200):
            ask(stack, long, f"topic=none{number}&last_event_id=earliest")
        # One after the other would take 200 times as long.
        assert catch_up() < 20 * alone + 1
        until(lambda: long.log.count("topics=none") >= 200, "the others are there")
    until(lambda: len(re.findall("stream ended: .* topics=none", long.log)) == 200, "they left")


@pytest.mark.parametrize("query", [f"topic=*&last={EVENTS - 1}", "topic=x&last_event_id=earliest"])
def test_who_left_is_not_read_for(long: Server, query: str) -> None:
    with ExitStack() as stack:
        for _ in range(300):
            ask(stack, long, query)
    began, before = time.monotonic(), cpu(long.worker)
    long.http.get("/healthz").raise_for_status()
    time.sleep(1)  # what it does in the meantime is what is tested
    assert cpu(long.worker) - before < 0.9 * (time.monotonic() - began)
    settled = cpu(long.worker)
    time.sleep(0.5)
    assert cpu(long.worker) - settled < 0.25


def test_the_id_of_an_event_that_one_may_not_see_is_unknown_to_one(long: Server) -> None:
    for name, private in (("secret", True), ("open", False)):
        event = {"topic": "p", "id": name, "data": "x", "private": private}
        long.http.post("/events", json=event, headers=TOKEN).raise_for_status()

    def answer(cursor: str, headers: dict[str, str]) -> tuple[Any, ...]:
        with long.listen(topic="p", headers={"Last-Event-ID": cursor, **headers}) as stream:
            opening, second = stream.next(), stream.next() if cursor != "open" else None
            about = json.loads(opening.data)
            del about["subscriber"]
            known = stream.headers["Last-Event-ID"]
            said = (second.type, second.id, second.data) if second else ()
            return known, opening.id, about, said

    assert answer("secret", {}) == answer("nobody's", {})
    assert answer("secret", {})[3][0::2] == ("hub.reset", '{"reason": "unknown"}')
    assert answer("open", {})[0] == "open"
    assert answer("secret", TOKEN)[0] == "secret"
    # Also where it is not at hand any more.
    batch = [{"topic": "t"}] * 50
    long.http.post("/events", json=batch, headers=TOKEN).raise_for_status()
    assert answer("secret", {}) == answer("nobody's", {})
    assert answer("secret", TOKEN)[0] == "secret"


def test_slow_replays_of_large_events_share_their_memory(serve: Callable[..., Server]) -> None:
    hub = serve(TIDINGS_DEMO="0", TIDINGS_WINDOW_EVENTS="1", TIDINGS_MAX_REPLAY_BYTES="8M")
    size, readers = 1_000_000, 60
    for letter in "abcdefgh":
        hub.publish(letter * size, topic="big")
    hub.publish("end", topic="big")
    before = memory(hub.worker)
    with ExitStack() as stack:
        socks = [ask(stack, hub, "topic=big&last_event_id=earliest", SMALL) for _ in range(readers)]
        for sock in socks:
            assert sock.recv(100).startswith(b"HTTP/1.1 200")
        until(lambda: hub.log.count("stream opened") >= readers, "all are there")
        with hub.listen(topic="big", last_event_id="earliest") as fast:
            assert [len(data) for data in fast.take(9)] == [size] * 8 + [3]
        assert memory(hub.worker) - before < 40 << 20  # a copy for each would be 60 MB and more


def test_a_replay_is_read_at_a_least_rate_or_ends_and_goes_on_where_it_was(
    serve: Callable[..., Server],
) -> None:
    limits = {"TIDINGS_WRITE_TIMEOUT": "1", "TIDINGS_MIN_SEND_RATE": "200000"}
    hub = serve(TIDINGS_DEMO="0", **limits)
    for number in range(20):
        hub.publish(str(number) * 100_000, topic="t")
    with ExitStack() as stack:
        slow = ask(stack, hub, "topic=t&last_event_id=earliest", SMALL)

        def read() -> bool:
            with_some = slow.recv(1000)
            time.sleep(0.02)
            return not with_some or hub.ended("too_slow") == 1

        until(read, "it is let go")
    with hub.listen(topic="t", last_event_id="earliest") as again:
        assert [data[0] for data in again.take(20)] == [str(number)[0] for number in range(20)]
    assert hub.ended("too_slow") == 1


def test_a_stream_that_is_refused_while_its_client_is_watched_ends_the_connection(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    with running_log("redis-server", tmp_path) as log:
        hub = serve(TIDINGS_BROKER_URL=log.url, TIDINGS_DEMO="0")
        kept = hub.http.get("/events", params={"topic": "t", "last": "x"})
        assert (kept.status_code, kept.headers["Connection"]) == (400, "keep-alive")
        log.stop()
        refused = hub.http.get("/events", params={"topic": "t", "last_event_id": "mine"})
        # What came on the connection meanwhile was thrown away: it might have been a request.
        assert (refused.status_code, refused.headers["Connection"]) == (503, "close")
        assert hub.http.get("/healthz").status_code == 200
