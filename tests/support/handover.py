"""Streams over real sockets, whose bytes move only when a test lets them.

The sockets' buffers hold next to nothing, so that writes come out short. Nothing waits for a clock:
the loop turns only when a test lets it.
"""

from __future__ import annotations

import json
import re
import socket
import zlib
from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import gevent
import pytest
from gevent.socket import socketpair

from support.parking import ONCE, Broken, ParkingWorker, request
from webapp.auth.authorizer import Grant
from webapp.core.events import Draft, EventId
from webapp.core.sse import Payload
from webapp.hub.delivery.feeds import Form
from webapp.hub.reads.start import Start
from webapp.hub.streams.stream import Stream as HubStream
from webapp.server.connection import ClientConnection
from webapp.server.waiters import Waiters

if TYPE_CHECKING:
    from webapp.core.events import Event
    from webapp.hub.hub import Hub

ALL = 1 << 16
_NEVER = 1e11  # in Unix seconds
PLENTY = 1000  # rounds in which all must come to rest, and more events than a search publishes
FRAME = re.compile(
    rb":\n|(?:retry: \d+\n)?(?:event: (?P<name>hub\.\w+)\n)?"
    rb"(?:id: (?P<id>\d+-\d+)\n)?data: (?P<data>.*)\n\n"
)
FIRST_FIELDS = re.compile(rb"retry: \d+\nid: \d+-\d+\n")
FRAME_WITHOUT_CONTROL = re.compile(
    rb":\n|(?P<name>retry): \d+\n|id: (?P<id>\d+-\d+)\ndata: (?P<data>.*)\n\n"
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
    control: bool = True
    parks: bool = True  # in a `StreamWorker`; else the generator waits. Only if it is direct
    gzip: bool = False


class Stream:
    """One connection: the server's side as gunicorn has it, and what its client read."""

    open: ClassVar[list[Stream]] = []

    def __init__(
        self, hub: Hub, way: Way, topics: frozenset[str], granted: frozenset[str], start: Start
    ) -> None:
        self.way = way
        grant = Grant(subscribe=granted, expires=_NEVER)
        form = Form(way.envelope, way.control, way.gzip)
        self.subscription = hub.subscribe(topics, grant, start, form=form)
        self.position = self.subscription.cursor
        self.raw = b""
        self.over = False
        self._client, server = socketpair()
        self._client.setblocking(False)  # noqa: FBT003 - the socket's own
        self._server: Any = ClientConnection(server, hub.settings, 95, Waiters())
        self._server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # the least there is
        self._server.begin_body(request((1, int(way.chunked))))
        self._server.is_stream = True
        self.worker = ParkingWorker() if way.parks and way.direct else None
        self.task = gevent.spawn(self._park if self.worker else self._wait)
        self.open.append(self)

    @property
    def ended(self) -> bool:
        """Whether nothing serves it any more."""
        return bool(self.worker.done["discarded"]) if self.worker else self.task.dead

    @property
    def succeeded(self) -> bool:
        """Whether it has ended, without an error, and all that ends with it has ended once."""
        return self.worker.done == ONCE if self.worker else self.task.successful()

    def _park(self) -> None:
        assert self.worker
        self.worker.serve(self._server, self.subscription.frames(self._server))

    def _wait(self) -> None:
        frames: Any = self.subscription.frames(self._server if self.way.direct else None)
        try:
            for frame in frames:
                self._server.sendall(Payload(frame).chunked if self.way.chunked else frame)
            if self.way.chunked:
                self._server.sendall(Payload(b"").chunked)
        except (BrokenPipeError, Broken):
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
        """Return what has arrived of the body, decoded. A gzip stream that is over is whole."""
        if not self.way.gzip:
            return self._dechunked()
        decoder = zlib.decompressobj(31)
        body = decoder.decompress(self._dechunked())
        assert not decoder.unused_data
        assert decoder.eof or not self.over
        return body

    def _dechunked(self) -> bytes:
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

    def kill(self) -> None:
        """Kill its greenlet, where the server has one for each stream."""
        if not self.worker:
            self.task.kill(block=False)

    def abort(self) -> None:
        """End the connection, as a worker that stops does after its drain."""
        self._server.abort()

    def warn(self) -> None:
        """Let it tell its client that its token expires soon, as the timers do."""
        self.subscription.deadlines.warning_due = True
        self.subscription._continue()

    def fail(self) -> None:
        """Let an error end it, once it goes on."""
        self.failing.add(self.subscription)
        self.subscription._continue()

    failing: ClassVar[set[Any]] = set()

    @classmethod
    def inject_errors(cls, patch: pytest.MonkeyPatch) -> None:
        """Let `fail` work."""
        go_on = HubStream._expiry_warning

        def break_(stream: HubStream) -> bytes:
            if stream in cls.failing:
                raise Broken
            return go_on(stream)

        patch.setattr(HubStream, "_expiry_warning", break_)

    @classmethod
    def close_all(cls) -> None:
        for stream in cls.open:
            stream.hang_up()
            stream.task.kill()
            stream._server.close()
        cls.open.clear()
        cls.failing.clear()


A, AB, EVERYTHING, NOTHING = map(frozenset[str], ("a", "ab", "*", ""))
A_TEMPLATE, TEMPLATE, B_OR_TEMPLATE = (
    frozenset(it) for it in (("a{x}",), ("{x}",), ("b", "a{x}{y}"))
)
LARGE = A | {f"/{number}/{{x}}" for number in range(51)}  # a grant that is matched apart
NAMES = {"a{x}": "a", "{x}": "*", "a{x}{y}": "a"}  # what templates match of the topics here
DIRECT, NOW = Way(), Start()


class Subscriber:
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
        self.names: list[bytes] = []  # of all frames; events have none, `retry:` alone is one
        self.marks: list[EventId] = []
        self.torn = False  # whether only a part of a frame has arrived
        self.streams: list[Stream] = []
        self._hub, self._topics, self._granted = hub, topics, granted
        self._start = start
        self._connect(start)
        # The newest id that it knows.
        self.position = self._begun_at = self.stream.position

    @property
    def stream(self) -> Stream:
        return self.streams[-1]

    def _connect(self, start: Start) -> None:
        self.streams.append(Stream(self._hub, self.way, self._topics, self._granted, start))
        self._parsed = self._events = 0

    @property
    def last_name(self) -> bytes:
        """The name of the frame that ends a stream."""
        return b"hub.bye" if self.way.control else b"retry"

    def come_back(self) -> None:
        self.stream.hang_up()
        if not self.way.control and self.position == self._begun_at:
            self._begin_again()
            return
        self._connect(Start(cursor=str(self.position)))
        if not self.way.control and self.stream.subscription.reset_reason:  # a header says so
            self._miss(self.stream.position)

    def _begin_again(self) -> None:
        """Connect as at first: it has been sent no id that counts."""
        self._connect(self._start)
        broker = self._hub.broker
        self.position = self._begun_at = self.stream.position
        events = broker.before(broker.bounds().head.next(0), PLENTY, PLENTY << 20)
        self.owed = deque(e for e in events if e.position > self.position and self.matches(e))

    def _miss(self, position: EventId) -> None:
        assert position <= self._hub.broker.bounds().floor
        while self.owed and self.owed[0].position <= position:
            self.owed.popleft()

    def matches(self, event: Event) -> bool:
        topics = set(event.draft.topics)
        public = not event.draft.private or bool(self._granted & topics)
        wanted = {NAMES.get(it, it) for it in self._topics}
        return public and bool(wanted & {"*", *topics})

    def read(self, size: int = ALL) -> bool:
        """Read some bytes; return whether there was anything."""
        if not self.stream.read(size):
            return False
        body = self.stream.body()
        if not self.way.control and not self._parsed and (first := FIRST_FIELDS.match(body)):
            self._parsed = first.end()
        pattern = FRAME if self.way.control or not self._parsed else FRAME_WITHOUT_CONTROL
        while frame := pattern.match(body, self._parsed):
            self._parsed = frame.end()
            name, position, data = frame["name"] or b"", frame["id"] or b"", frame["data"]
            if data is not None:
                self._take(name, EventId.parse(position.decode()), data.decode())
            elif name:
                self.names.append(name)
        self.torn = len(body) > self._parsed
        if self.stream.over:
            assert (self.names[-1], self.torn) == (self.last_name, False)
            assert self._events == self.stream.subscription.events_sent
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
            self._miss(position)
        else:
            assert name in {b"hub.open", b"hub.bye", b"hub.expiring"}
        self.position = position


def draft(topics: str, data: str = "", *, private: bool = False) -> Draft:
    return Draft(topics=tuple(topics), data=data, private=private)


def publish(hub: Hub, subscribers: list[Subscriber], *drafts: Draft) -> list[Event]:
    """Publish; from now on the subscribers are owed it."""
    events = hub.publish(drafts)
    for subscriber in subscribers:
        subscriber.owed.extend(filter(subscriber.matches, events))
    return events


def beat(hub: Hub) -> None:
    hub.fanout.send_heartbeats(-PLENTY)


def come_to_rest(subscribers: list[Subscriber], *, come_back: bool = False) -> None:
    """Read, and let the loop turn, until nothing moves any more."""
    still = 0
    for _ in range(PLENTY):
        for subscriber in subscribers:
            if subscriber.stream.over and come_back:
                subscriber.come_back()
        still = 0 if sum(subscriber.read() for subscriber in subscribers) else still + 1
        gevent.idle()
        if still == 3:
            return
    pytest.fail("it does not come to rest")
