"""The log of many machines: one Stream in Redis or Valkey.

Three keys in one slot: the stream, whose entries hold drafts as text; a hash from the publishers'
own ids to places; and a queue of those ids by place, from which they are dropped in step with the
stream. Scripts do what must not be torn apart. The server gives the places, so all processes
that follow see one order.

A log is born at a place of the server's time, which is its floor until something is trimmed: a
cursor from before it was erased lies below that and is told so. What a failover loses is noticed
because every page that is followed comes with the answer whether the place before it is still
held; that the head is further on would prove nothing.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager, suppress
from pathlib import Path
from random import uniform
from socket import SHUT_RDWR
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import redis
from gevent.event import Event as Signal
from gevent.lock import BoundedSemaphore
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError, NoScriptError
from redis.retry import Retry

from webapp.brokers.base import Bounds, Gap, conflict
from webapp.errors import Invalid, Unavailable
from webapp.events import Draft, Event, EventId

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

log = logging.getLogger(__name__)

_KEYS = ("{tidings}:log", "{tidings}:ids", "{tidings}:queue")
_CONNECTIONS = 4  # a process, beside the follower's: small plans allow 20 in all
_READERS = 2  # of them: a crowd that catches up does not keep publishers waiting
_TIMEOUT = 3.0  # seconds, for an answer, for a connection, and for one of ours to be free
_BLOCK = 2.0  # seconds that the follower waits for news before it looks around
_BACKOFF = (0.1, 3.0)  # seconds, the first and the longest
_PAGE = 256 << 10  # bytes asked for at once
_ALL = 1 << 30  # events
_LAST = EventId(2**63, 0)  # after all places; more would not fit where Redis keeps them
_SCRIPT = Path(__file__).with_suffix(".lua").read_text()


class _Page(NamedTuple):
    """Some of the log, and what the log was like at that moment."""

    bounds: Bounds
    held: bool  # whether the log holds the place that was asked about
    lines: list[bytes]  # "<place> <draft>"


class RedisBroker:
    """The newest events that a server keeps, bounded in number and age.

    :param url: `redis://` or `rediss://`, with options as redis-py has them in its query.
    :param max_age: in seconds.
    """

    def __init__(self, url: str, max_events: int, max_age: float) -> None:
        self._limits = (max_events, round(max_age * 1000))
        self._pool = _pool(url, _CONNECTIONS, _TIMEOUT)
        self._client = redis.Redis(connection_pool=self._pool)
        self._script = self._client.register_script(_SCRIPT)
        self._reading = BoundedSemaphore(_READERS)
        self._url = url
        self._followers: list[redis.BlockingConnectionPool] = []
        self._closed = Signal()

    def append(self, drafts: Sequence[Draft]) -> list[Event]:
        """Put all drafts in the log, or none; see `Broker.append`.

        It is sent once: where the answer is lost, the drafts may be in the log.
        """
        texts = [text for draft in drafts for text in (draft.id or "", draft.dumps())]
        order = ["append", *map(str, self._limits), *texts]
        with self._reached():
            try:
                places = self._script(_KEYS, order)
            except redis.OutOfMemoryError:
                self.bounds()  # what is too old makes room, even after the limits were lowered
                places = self._script(_KEYS, order)
        if places is None:
            raise conflict()
        return [Event(_place(p), draft) for p, draft in zip(places, drafts, strict=True)]

    def follow(self, after: EventId) -> Iterator[list[Event] | Gap]:
        """Yield what comes after a place, in order, until the broker is closed."""
        # A connection of its own, which waits longer than others may.
        pool = _pool(self._url, 1, _BLOCK + _TIMEOUT)
        self._followers.append(pool)
        failures = 0
        while not self._closed.is_set():
            try:
                page = self._await_page(pool, after)
            except redis.RedisError as error:
                # A new connection looks the address up anew, and so finds a new master.
                pool.disconnect()
                self._rest(error, failures)
                failures += 1
                continue
            if failures:
                log.warning("the log is back")
                failures = 0
            if not page.held:
                gap = _gap(after, page.bounds)
                after = gap.place
                yield gap
            elif page.lines:
                after = _place(page.lines[-1].partition(b" ")[0])
                if events := _events(page.lines):
                    yield events

    def read(self, after: EventId, max_bytes: int) -> list[Event]:
        """Return a page of the events after a place."""
        return _events(self._page(after, max_bytes=max_bytes).lines)

    def before(self, place: EventId, limit: int, max_bytes: int) -> list[Event]:
        """Return the newest events before a place, in the log's order."""
        found: list[Event] = []
        place = min(place, _LAST)
        while limit > 0 and max_bytes > 0 and place > (0, 0):
            page = self._page(place, "XREVRANGE", limit, min(max_bytes, _PAGE))
            if not page.lines:
                break
            place = _place(page.lines[-1].partition(b" ")[0])
            events = _events(page.lines)
            limit -= len(events)
            max_bytes -= sum(len(event.frame) for event in events)
            found += events
        return found[::-1]

    def bounds(self) -> Bounds:
        """Return where the log begins and ends now."""
        return self._page(_LAST, limit=0).bounds

    def locate(self, id: str) -> EventId | None:
        """Return the place that an id names, or None where the log does not hold it."""
        place = EventId.parse(id) or self._own(id)
        return place if place and place < _LAST and self._page(place, limit=0).held else None

    def close(self) -> None:
        """Let go of the server; `follow` ends."""
        self._closed.set()
        self._pool.disconnect(inuse_connections=False)
        for pool in self._followers:
            _hang_up(pool)

    def _own(self, id: str) -> EventId | None:
        with self._reached():
            place = self._client.hget(_KEYS[1], id)
        return _place(cast(bytes, place)) if place else None

    def _page(
        self,
        place: EventId,
        command: str = "XRANGE",
        limit: int = _ALL,
        max_bytes: int = _PAGE,
    ) -> _Page:
        with self._reading, self._reached():
            order = self._order(place, command, limit, max_bytes)
            return _page(place, self._script(_KEYS, order))

    def _order(
        self,
        place: EventId,
        command: str = "XRANGE",
        limit: int = _ALL,
        max_bytes: int = _PAGE,
    ) -> list[Any]:
        edge = "+" if command == "XRANGE" else "-"
        return ["read", *self._limits, command, str(place), edge, limit, max_bytes]

    def _await_page(self, pool: redis.BlockingConnectionPool, after: EventId) -> _Page:
        # Sent together, so that news costs one round trip. XREAD only waits; the script is answered
        # after it and so tells what was trimmed, or erased, before the page was read.
        client = redis.Redis(connection_pool=pool)
        with client.pipeline(transaction=False) as pipe:
            pipe.xread({_KEYS[0]: str(after)}, count=1, block=round(_BLOCK * 1000))
            pipe.evalsha(self._script.sha, len(_KEYS), *_KEYS, *self._order(after))
            try:
                return _page(after, pipe.execute()[1])
            except NoScriptError:
                client.script_load(_SCRIPT)
        return self._await_page(pool, after)

    def _rest(self, error: redis.RedisError, failures: int) -> None:
        """Wait before the next try: not all processes at once, and not for long."""
        if self._closed.is_set():
            return
        if not failures:
            log.error("the log is away: %s", _unavailable(error).detail)
        first, longest = _BACKOFF
        self._closed.wait(uniform(0.5, 1) * min(longest, first * 2 ** min(failures, 10)))  # noqa: S311 - no secret

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except redis.RedisError as error:
            if isinstance(error, redis.ConnectionError | redis.TimeoutError | redis.ReadOnlyError):
                # The idle ones lead to the same place, which may be the wrong one by now.
                self._pool.disconnect(inuse_connections=False)
            raise _unavailable(error) from error


def _pool(url: str, size: int, timeout: float) -> redis.BlockingConnectionPool:
    return redis.BlockingConnectionPool.from_url(
        url,
        max_connections=size,
        timeout=_TIMEOUT,
        socket_timeout=timeout,
        socket_connect_timeout=_TIMEOUT,
        socket_keepalive=True,
        health_check_interval=30,
        client_name="tidings",
        protocol=2,  # nothing is sent to us unasked
        retry=Retry(NoBackoff(), 0),  # an XADD whose answer was lost would be sent again
    )


def _hang_up(pool: redis.BlockingConnectionPool) -> None:
    # Only shut down: redis-py would take the buffer away from the greenlet that reads into it.
    for connection in pool._connections:  # noqa: SLF001 - see above
        if sock := connection._sock:  # noqa: SLF001 - see above
            with suppress(OSError):
                sock.shutdown(SHUT_RDWR)


def _page(place: EventId, answer: Any) -> _Page:
    stored, first, head, held, text = answer
    floor = _place(stored) if stored else _before(_place(first)) if first else _place(head)
    bounds = Bounds(floor, _place(head))
    return _Page(bounds, bool(held) or place == floor, text.split(b"\n") if text else [])


def _place(text: bytes) -> EventId:
    ms, _, seq = text.partition(b"-")
    return EventId(int(ms), int(seq))


def _before(place: EventId) -> EventId:
    return EventId(place.ms, place.seq - 1) if place.seq else EventId(place.ms - 1, 2**64 - 1)


def _gap(after: EventId, bounds: Bounds) -> Gap:
    return Gap(bounds.floor, "aged") if after < bounds.floor else Gap(bounds.head, "unknown")


def _events(lines: list[bytes]) -> list[Event]:
    events = []
    for line in lines:
        place, _, text = line.partition(b" ")
        try:
            events.append(Event(_place(place), Draft.loads(text.decode())))
        except (Invalid, ValueError, TypeError, AttributeError):
            log.error("entry %s of the log is none of ours", place.decode())  # noqa: TRY400 - known
    return events


def _unavailable(error: redis.RedisError) -> Unavailable:
    """Say what is wrong, without the server's words: they may hold what was sent."""
    for kind, detail, remedy in _PROBLEMS:
        if isinstance(error, kind):
            return Unavailable(detail, remedy)
    code = getattr(error, "status_code", None) or str(error).partition(" ")[0]
    return Unavailable(f"The log's server refuses ({code}).", "See what its own log says.")


_AGAIN = "Try again: with an id of your own, nothing is published twice."
_PROBLEMS: list[tuple[type[redis.RedisError], str, str]] = [
    (
        redis.AuthenticationError,
        "The log's server refuses the password.",
        "Correct TIDINGS_BROKER_URL, or REDIS_URL.",
    ),
    (
        NoPermissionError,
        "The log's server does not let this user do what is needed.",
        "Permit it EVAL, EVALSHA, SCRIPT and the commands of streams, hashes and lists.",
    ),
    (
        redis.OutOfMemoryError,
        "The log's memory is full.",
        "Give its server more, or keep less: TIDINGS_HISTORY_EVENTS, TIDINGS_HISTORY_AGE.",
    ),
    (redis.ReadOnlyError, "The log's server has become a replica.", _AGAIN),
    (redis.BusyLoadingError, "The log's server is still loading its data.", _AGAIN),
    (redis.TimeoutError, "The log does not answer: it may have what was sent.", _AGAIN),
    (redis.ConnectionError, "The log cannot be reached: it may have what was sent.", _AGAIN),
]
