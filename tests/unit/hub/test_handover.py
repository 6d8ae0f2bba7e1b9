"""The hand-over in any order of steps: each reader gets what it asked for, in order and once.

The streams go through real sockets whose buffers hold next to nothing, so that writes come out
short. Nothing waits for a clock: the loop turns only when a test lets it.

To search for longer, elsewhere each time, and for the shortest way to what is found:
`HANDOVER_EXAMPLES=5000 python -m pytest tests/unit/hub/test_handover.py -o faulthandler_timeout=0`.
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections import deque
from collections.abc import Callable, Iterator
from itertools import product
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import gevent
import pytest
from gevent.socket import socketpair
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

from support.hub import make_hub
from webapp.auth.authorizer import Grant
from webapp.brokers.base import Gap
from webapp.core.events import Draft, EventId
from webapp.core.sse import Payload
from webapp.hub.history import Start
from webapp.server.connection import ClientConnection

if TYPE_CHECKING:
    from webapp.core.events import Event
    from webapp.hub.feeds import Feed
    from webapp.hub.history import Found
    from webapp.hub.hub import Hub
    from webapp.hub.read_queue import Reading
    from webapp.scheduling import TimeSlice

Turns = tuple[Callable[[float], None], ...]

EXAMPLES = os.environ.get("HANDOVER_EXAMPLES")
SEARCH = settings(
    max_examples=int(EXAMPLES or 100),
    derandomize=EXAMPLES is None,
    phases=[Phase.generate, Phase.shrink] if EXAMPLES else [Phase.generate],
    stateful_step_count=60,
    database=None,
    deadline=None,
)
ALL = 1 << 16
PLENTY = 1000  # rounds in which all must come to rest, and more events than a search publishes
FRAME = re.compile(
    rb":\n|(?:retry: \d+\n)?(?:event: (hub\.\w+)\n)?(?:id: (\d+-\d+)\n)?data: (.*)\n\n"
)


def poll(_: float = 0) -> None:
    """Let the loop turn once as a whole; `gevent.sleep(0)` looks at no socket."""
    gevent.idle(2)


class Way(NamedTuple):
    """How a stream is served and read."""

    direct: bool = True  # else a server that waits for its client writes what is yielded
    chunked: bool = True
    fast: bool = True  # the client reads all that comes; else only what a rule lets it
    envelope: bool = False


class Stream:
    """One connection: the server's side as gunicorn has it, and what its client read."""

    open: ClassVar[list[Stream]] = []

    def __init__(
        self, hub: Hub, way: Way, topics: frozenset[str], granted: frozenset[str], start: Start
    ) -> None:
        self.way = way
        grant = Grant(subscribe=granted)
        self.subscription = hub.subscribe(topics, grant, start, envelope=way.envelope)
        self.position = self.subscription.cursor
        self.raw = b""
        self.over = False
        self._client, server = socketpair()
        self._client.setblocking(False)  # noqa: FBT003 - the socket's own
        self._server: Any = ClientConnection(server, hub.settings)
        self._server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # the least there is
        self._server.begin_body(SimpleNamespace(version=(1, int(way.chunked))))
        self.task = gevent.spawn(self._serve)
        self.open.append(self)

    def _serve(self) -> None:
        frames: Any = self.subscription.frames(self._server if self.way.direct else None)
        try:
            for frame in frames:
                self._server.sendall(Payload(frame).chunked if self.way.chunked else frame)
            if self.way.chunked:
                self._server.sendall(Payload(b"").chunked)
        except BrokenPipeError:
            pass
        finally:
            frames.close()
            self._server.close()

    def read(self, size: int) -> bool:
        """Read some bytes; return whether there was anything, the end included."""
        if self.over:
            return False
        try:
            data = self._client.recv(size)
        except BlockingIOError:
            return False
        self.raw += data
        self.over = not data
        return True

    def body(self) -> bytes:
        """Return what has arrived of the body."""
        if not self.way.chunked:
            return self.raw
        body, raw = b"", self.raw
        while b"\r\n" in raw:
            head, raw = raw.split(b"\r\n", 1)
            size = int(head, 16)
            body += raw[:size]
            assert b"\r\n".startswith(raw[size : size + 2])
            raw = raw[size + 2 :]
        return body

    def hang_up(self) -> None:
        self.over = True
        self._client.close()

    @classmethod
    def close_all(cls) -> None:
        for stream in cls.open:
            stream.hang_up()
            stream.task.kill()
            stream._server.close()
        cls.open.clear()


A, AB, EVERYTHING, NOTHING = map(frozenset[str], ("a", "ab", "*", ""))
DIRECT, NOW = Way(), Start()


class Reader:
    """A client over all its connections, and the events that it is owed."""

    def __init__(
        self,
        hub: Hub,
        way: Way = DIRECT,
        topics: frozenset[str] = A,
        granted: frozenset[str] = NOTHING,
        start: Start = NOW,
    ) -> None:
        self.way = way
        self.owed: deque[Event] = deque()
        self.names: list[bytes] = []  # of all frames; events have none
        self.marks: list[EventId] = []
        self.torn = False  # whether only a part of a frame has arrived
        self.streams: list[Stream] = []
        self._hub, self._topics, self._granted = hub, topics, granted
        self._connect(start)
        self.position = self.stream.position  # the newest id that it knows

    @property
    def stream(self) -> Stream:
        return self.streams[-1]

    def _connect(self, start: Start) -> None:
        self.streams.append(Stream(self._hub, self.way, self._topics, self._granted, start))
        self._parsed = self._events = 0

    def come_back(self) -> None:
        self.stream.hang_up()
        self._connect(Start(cursor=str(self.position)))

    def matches(self, event: Event) -> bool:
        topics = set(event.draft.topics)
        public = not event.draft.private or bool(self._granted & topics)
        return public and bool(self._topics & {"*", *topics})

    def read(self, size: int = ALL) -> bool:
        """Read some bytes; return whether there was anything."""
        if not self.stream.read(size):
            return False
        body = self.stream.body()
        while frame := FRAME.match(body, self._parsed):
            self._parsed = frame.end()
            name, position, data = frame.groups()
            if data is not None:
                self._take(name or b"", EventId.parse((position or b"").decode()), data.decode())
        self.torn = len(body) > self._parsed
        if self.stream.over:
            assert (self.names[-1], self.torn) == (b"hub.bye", False)
            assert self._events == self.stream.subscription.sent
        return True

    def _opened(self, data: str) -> str:
        return str(json.loads(data)["data"]) if self.way.envelope else data

    def _take(self, name: bytes, position: EventId | None, data: str) -> None:
        self.names.append(name)
        if position is None:
            assert name == b"hub.open"  # a reset follows, and has it
            return
        assert position >= self.position
        if not name:
            event = self.owed.popleft()
            assert (position, self._opened(data)) == (event.position, event.draft.data)
            self._events += 1
        elif name == b"hub.mark":
            assert position > self.position
            self.marks.append(position)
        elif name == b"hub.reset":
            assert position <= self._hub.broker.bounds().floor
            while self.owed and self.owed[0].position <= position:
                self.owed.popleft()
        else:
            assert name in {b"hub.open", b"hub.bye"}
        self.position = position


def draft(topics: str, data: str = "", *, private: bool = False) -> Draft:
    return Draft(topics=tuple(topics), data=data, private=private)


def publish(hub: Hub, readers: list[Reader], *drafts: Draft) -> list[Event]:
    """Publish; from now on the readers are owed it."""
    events = hub.publish(drafts)
    for reader in readers:
        reader.owed.extend(filter(reader.matches, events))
    return events


def beat(hub: Hub) -> None:
    for subscription in list(hub._members):
        subscription.beat()


def come_to_rest(readers: list[Reader], *, come_back: bool = False) -> None:
    """Read, and let the loop turn, until nothing moves any more."""
    still = 0
    for _ in range(PLENTY):
        for reader in readers:
            if reader.stream.over and come_back:
                reader.come_back()
        still = 0 if sum(reader.read() for reader in readers) else still + 1
        gevent.idle()
        if still == 3:
            return
    pytest.fail("it does not come to rest")


WAYS = st.builds(
    Way, st.booleans(), st.booleans(), st.sampled_from([True, True, False]), st.booleans()
)
STARTS = st.sampled_from([NOW, Start(cursor="earliest"), Start(last=2)])
SIZES = st.sampled_from([(0,), (0, 0), (0,) * 9, (100,), (5000,), (0, 5000, 0)])
TURNS = st.sampled_from([t for n in range(4) for t in product((gevent.sleep, poll), repeat=n)])


class HandOver(RuleBasedStateMachine):
    """Readers and publishers of one hub, and a loop that turns only when it is let."""

    readers: Bundle[Reader] = Bundle("readers")
    pause: ClassVar[Turns] = ()  # what the loop does whenever work gives way

    @initialize(
        target=readers,
        window=st.sampled_from([1, 4, 20, 100]),
        history=st.sampled_from([0, PLENTY]),
        ways=st.lists(WAYS, min_size=2, max_size=5),
        pause=TURNS,
    )
    def begin(self, window: int, history: int, ways: list[Way], pause: Turns) -> Any:
        HandOver.pause = pause
        history = max(window, history)
        self.hub = make_hub(window_events=window, history_events=history, heartbeat=3600)
        self.hub.start()
        self.renewal = gevent.spawn(self.hub.fanout.renew)
        self.log: list[Event] = []
        self.checked = 0
        self.all: list[Reader] = []
        return multiple(*[self.join(way, A, A, NOW, ()) for way in ways])

    @precondition(lambda self: len(self.all) < 8)
    @rule(
        target=readers,
        way=WAYS,
        topics=st.sampled_from([A, AB, EVERYTHING]),
        granted=st.sampled_from([A, NOTHING]),
        start=STARTS,
        turns=TURNS,
    )
    def join(
        self, way: Way, topics: frozenset[str], granted: frozenset[str], start: Start, turns: Turns
    ) -> Reader:
        reader = Reader(self.hub, way, topics, granted, start)
        reader.owed.extend(
            e for e in self.log if e.position > reader.position and reader.matches(e)
        )
        self.all.append(reader)
        self.turn(turns)
        return reader

    @rule(topics=st.sampled_from(["a", "b", "ab"]), private=st.booleans(), sizes=SIZES, turns=TURNS)
    def publish(self, topics: str, private: bool, sizes: tuple[int, ...], turns: Turns) -> None:  # noqa: FBT001
        data = [f"{number} {'x' * size}" for number, size in enumerate(sizes, len(self.log))]
        self.log += publish(self.hub, self.all, *[draft(topics, d, private=private) for d in data])
        self.turn(turns)

    @rule(reader=readers, size=st.sampled_from([1, 50, 3000, ALL]), turns=TURNS)
    def read(self, reader: Reader, size: int, turns: Turns) -> None:
        reader.read(size)
        self.turn(turns)

    @rule(renew=st.booleans(), turns=TURNS)
    def tick(self, renew: bool, turns: Turns) -> None:  # noqa: FBT001
        if not renew:
            beat(self.hub)
        elif self.renewal.dead:
            self.renewal = gevent.spawn(self.hub.fanout.renew)
        self.turn(turns)

    @rule(reader=readers, how=st.sampled_from(["kicked", "killed", "hung up"]), turns=TURNS)
    def cut(self, reader: Reader, how: str, turns: Turns) -> None:
        if how == "kicked":
            reader.stream.subscription.end("kicked")
        else:
            if how == "killed":
                reader.stream.task.kill(block=False)
            reader.come_back()
        self.turn(turns)

    def turn(self, turns: Turns) -> None:
        for turn in turns:
            turn(0)
            for reader in self.all:
                if reader.way.fast:
                    reader.read()

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
        for reader in self.all:
            assert not reader.owed
            assert not reader.torn
            assert reader.position >= self.hub.fanout.window.floor  # it may come back at any time
            assert all(stream.task.dead for stream in reader.streams[:-1] if stream.way.direct)
        assert all(feed.parked <= self.hub._members for feed in self.hub._feeds)
        assert all(reader.parked == (reader in reader.feed.parked) for reader in self.hub)

    def everybody_leaves(self) -> None:
        self.join(DIRECT, A, NOTHING, NOW, ())  # who is just coming, too
        self.hub.drain()
        come_to_rest(self.all)
        for reader in self.all:
            assert reader.names[-1] == b"hub.bye"
            assert reader.position == self.hub.fanout.window.head
            assert all(stream.task.successful() for stream in reader.streams)
        assert not self.hub.failed
        assert not self.hub._members
        assert not list(self.hub._feeds)
        assert not self.hub._feeds._exact
        assert not self.hub._feeds._patterns


@pytest.fixture(autouse=True)
def _no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the loop does when work gives way, and for how long, is for a test to say."""
    monkeypatch.setattr("webapp.hub.dispatcher._SHORT", PLENTY)
    monkeypatch.setattr("webapp.scheduling._SLICE", PLENTY)
    monkeypatch.setattr("webapp.scheduling.yield_to_loop", poll)
    monkeypatch.setattr("webapp.hub.subscriber.yield_to_loop", poll)


def pause(_: TimeSlice) -> None:
    for turn in HandOver.pause:
        turn(0)


def test_in_whatever_order_things_happen_each_reader_gets_its_events_in_order_and_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("webapp.hub.dispatcher._BATCH_BYTES", 500)
    monkeypatch.setattr("webapp.hub.history.PAGE_BYTES", 300)
    monkeypatch.setattr("webapp.scheduling.TimeSlice.checkpoint", pause)
    run_state_machine_as_test(HandOver, settings=SEARCH)


@pytest.fixture(name="hub")
def _hub() -> Iterator[Hub]:
    hub = make_hub(window_events=8, history_events=8, heartbeat=3600)
    hub.start()
    yield hub
    Stream.close_all()
    hub.stop()


def test_a_reader_parks_in_the_breath_in_which_it_found_nothing_more(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    gevent.killall(hub._tasks)
    look = hub.history.look

    def look_before_an_event(feed: Feed, reading: Reading, after: EventId) -> Found:
        if not (found := look(feed, reading, after)).more and not hub.fanout.window:
            gevent.spawn(deliver)
        return found

    def deliver() -> None:  # what the follower and the dispatcher do
        events = publish(hub, [reader], draft("a"))
        hub.fanout.window.append(events)
        hub.fanout._send(events)
        hub.fanout.dispatched_up_to = events[-1].position

    monkeypatch.setattr(hub.history, "look", look_before_an_event)
    reader = Reader(hub)
    come_to_rest([reader])
    assert hub.fanout.window
    assert not reader.owed


def test_a_reader_that_parks_within_the_next_batch_is_given_its_rest(hub: Hub) -> None:
    gevent.killall(hub._tasks)
    batch = hub.publish([draft("a"), draft("a")])
    hub.fanout.window.append(batch[:1])
    reader = Reader(hub)
    reader.owed.append(batch[1])
    come_to_rest([reader])
    hub.fanout.window.append(batch[1:])
    hub.fanout._send(batch)
    assert reader.read()
    assert not reader.owed
    hub.fanout._send(batch)
    hub.fanout.dispatched_up_to = reader.position
    for _ in range(2):
        hub.fanout.renew()
    assert not reader.read()  # it has all and knows the newest place


def test_what_fits_its_buffer_does_not_wake_a_reader(hub: Hub) -> None:
    reader = Reader(hub)
    come_to_rest([reader])
    publish(hub, [reader], *[draft("a")] * 3)
    for _ in range(30):
        gevent.sleep(0)
        subscription = reader.stream.subscription
        assert subscription in subscription.feed.parked
    assert reader.read()
    assert not reader.owed


def test_a_reader_that_ends_while_it_catches_up_is_told_how_far_it_came(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webapp.hub.history.PAGE_BYTES", 1)
    hub.publish([draft("b")] * 8)
    gevent.idle()
    reader = Reader(hub, start=Start(cursor="earliest"))
    subscription = reader.stream.subscription
    while subscription.cursor == reader.position:
        gevent.sleep(0)
    subscription.end("kicked")
    subscription.end("drain")
    come_to_rest([reader])
    assert subscription.reason == "kicked"
    assert reader.position < hub.fanout.window.head


@pytest.mark.parametrize("direct", [True, False])
def test_half_a_window_that_a_reader_does_not_see_is_worth_a_mark(
    hub: Hub, *, direct: bool
) -> None:
    quiet, busy = Reader(hub, Way(direct=direct)), Reader(hub, topics=EVERYTHING)
    both = [quiet, busy]
    come_to_rest(both)
    positions = []
    for _ in range(12):
        positions += [event.position for event in publish(hub, both, draft("b"))]
        come_to_rest(both)
        if direct:
            beat(hub)  # which tells nobody of a place
    assert quiet.marks == positions[3::4]
    # Of a batch it knows the event that it saw; who was woken by it looks when it parks again.
    [_, unseen] = publish(hub, both, draft("a"), draft("b"))
    come_to_rest(both)
    [_, last] = publish(hub, both, draft("b"), draft("b"))
    come_to_rest(both)
    assert quiet.marks[3:] == [last.position if direct else unseen.position]
    assert busy.marks == []
    assert b"hub.reset" not in quiet.names


def test_no_mark_is_older_than_what_its_reader_was_told_meanwhile(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    readers = [Reader(hub), Reader(hub)]
    come_to_rest(readers)

    def meanwhile(_: TimeSlice) -> None:
        monkeypatch.setattr("webapp.scheduling.TimeSlice.checkpoint", lambda _: None)
        publish(hub, readers, draft("a"))
        publish(hub, readers, *[draft("b")] * 4)
        gevent.idle()

    monkeypatch.setattr("webapp.scheduling.TimeSlice.checkpoint", meanwhile)
    hub.fanout.renew()
    come_to_rest(readers)
    assert not any(reader.owed for reader in readers)


def test_no_mark_is_of_a_log_that_was_lost_meanwhile(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    readers = [Reader(hub), Reader(hub)]
    come_to_rest(readers)
    publish(hub, readers, *[draft("b")] * 8)
    come_to_rest(readers)

    def meanwhile(_: TimeSlice) -> None:
        monkeypatch.setattr("webapp.scheduling.TimeSlice.checkpoint", lambda _: None)
        hub.fanout._skip(Gap(EventId(1, 0), "unknown"))
        gevent.idle()

    monkeypatch.setattr("webapp.scheduling.TimeSlice.checkpoint", meanwhile)
    hub.fanout.renew()
    for reader in readers:
        assert reader.stream.read(ALL)
        assert reader.stream.raw.count(b"hub.reset") == 1
        assert b"hub.mark" not in reader.stream.raw.split(b"hub.reset")[1]


def test_a_reader_cut_before_it_is_told_of_a_loss_is_told_when_it_comes_back(hub: Hub) -> None:
    reader = Reader(hub)
    come_to_rest([reader])
    reader.stream.hang_up()
    publish(hub, [reader], *[draft("a")] * 20)
    reader.come_back()
    gevent.idle()
    while reader.names[1:] != [b"hub.open"]:
        reader.read(1)
    reader.come_back()
    come_to_rest([reader])
    assert b"hub.reset" in reader.names
    assert not reader.owed


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
    readers = [Reader(hub, topics=topics) for topics in (A, AB, EVERYTHING) for _ in range(4)]
    come_to_rest(readers)
    monkeypatch.setattr("webapp.scheduling._SLICE", -1)
    *_, last = publish(hub, readers, *[draft("a")] * 5)
    assert turns(lambda: hub.fanout.dispatched_up_to == last.position) >= 5 * 3 + 12
    assert turns(gevent.spawn(hub.fanout.renew).ready) >= 12


@pytest.mark.parametrize(("slice_", "page"), [(-1, ALL), (PLENTY, 1)])
def test_a_reader_that_catches_up_lets_the_loop_turn(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, slice_: float, page: int
) -> None:
    monkeypatch.setattr("webapp.scheduling._SLICE", slice_)
    monkeypatch.setattr("webapp.hub.history.PAGE_BYTES", page)
    hub.publish([draft("b")] * 8)
    gevent.idle()
    subscription = Reader(hub, start=Start(cursor="earliest")).stream.subscription
    assert turns(lambda: subscription in subscription.feed.parked) >= 8
