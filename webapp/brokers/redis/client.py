"""The way to the server that keeps the log of many machines: Redis or Valkey.

All that is asked of it are calls of one script, over few connections: one for all publishers of
the process, two for all that read, one for the follower. Small plans allow 20 in all.
"""

from __future__ import annotations

import logging
from collections import deque
from contextlib import suppress
from functools import partial
from hashlib import sha1
from socket import SHUT_RDWR
from time import monotonic
from typing import TYPE_CHECKING, Any

import gevent
import redis
from gevent.event import AsyncResult
from gevent.lock import BoundedSemaphore
from redis import BlockingConnectionPool, RedisError
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError, NoScriptError
from redis.retry import Retry

from ...errors import Misconfigured, ServiceUnavailable
from ...tasks import skip

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

logger = logging.getLogger(__name__)

_READERS = 2  # connections
_TIMEOUT = 3.0  # seconds, for an answer and for a connection
_PATIENCE = 10.0  # seconds that a publisher waits at most
_BLOCK = 2.0  # seconds that the follower waits for news before it looks around
_TOGETHER = 256 << 10  # bytes sent at once, and at least one order

Order = list[str]  # a verb of the script, and its arguments


class RedisClient:
    """The connections of one process; each call may raise `ServiceUnavailable`.

    :param url: `redis://` or `rediss://`, with redis-py's options in its query.
    :param script: in Lua, and the `keys` that it works on; the first is a stream.
    :param relieve: the order that makes room in a full memory.
    :raises Misconfigured: the URL has an option that does not exist.
    """

    def __init__(self, url: str, script: str, keys: Sequence[str], relieve: Order) -> None:
        self._line: Callable[[int, float], _Line] = partial(_Line, url, script, keys)
        try:
            self._shared = self._line(_READERS + 1, _TIMEOUT)
        except (TypeError, ValueError, RedisError) as error:
            detail = "The URL of the log has an option that is unknown, or has no such value."
            remedy = "Correct what follows the ? in TIDINGS_BROKER_URL, or REDIS_URL."
            raise Misconfigured(detail, remedy) from error
        self._stream = keys[0]
        self._attended: dict[str, str] = {}
        self._heard: Callable[[], None] | None = None
        self._watches: list[_Line] = []
        self._relieve = relieve
        self._reading = BoundedSemaphore(_READERS)
        self._hung_at = 0.0  # when a reading last waited in vain
        self._orders: deque[tuple[Order, AsyncResult[Any]]] = deque()
        self._sending = False

    def write(self, order: Order) -> Any:
        """Call the script once: where its answer is lost, it may have been done."""
        answer: AsyncResult[Any] = AsyncResult()
        self._orders.append((order, answer))
        if not self._sending:
            self._sending = True
            gevent.spawn(self._send)
        try:
            answer.wait(_PATIENCE)
        finally:
            if not answer.ready() and (order, answer) in self._orders:
                self._orders.remove((order, answer))  # nobody waits for it any more
        return _checked(answer.value if answer.ready() else redis.TimeoutError())

    def read(self, order: Order) -> Any:
        """Call the script for something that may be asked again."""
        # Whoever comes again at once stands behind those who wait already.
        gevent.sleep(0)
        asked = monotonic()
        with self._reading:
            # A thousand that wait for a server that hangs do not each wait for its time-out.
            if self._hung_at < asked:
                result = self._shared.call([order])[0]
                if isinstance(result, redis.TimeoutError):
                    self._hung_at = monotonic()
            else:
                result = redis.TimeoutError()
        return _checked(result)

    def watch(self) -> Callable[[str | None, Order], Any]:
        """Return what waits for news, over a connection of its own: it waits longer than others.

        Called with a place and an order, it calls the script as soon as the stream has more than
        that place, or after a while; with None, at once.
        """
        line = self._line(1, _BLOCK + _TIMEOUT)
        self._watches.append(line)

        def wait(position: str | None, order: Order) -> Any:
            answer = line.call(
                [order], {self._stream: position, **self._attended} if position else None
            )
            self._look(line.found)
            return _checked(answer[0])

        return wait

    def also_wait_for(self, stream: str, position: str, heard: Callable[[], None]) -> None:
        """Have `heard` called when another stream has more than a place, too; the connection that
        waits for news waits for both.
        """
        self._attended[stream], self._heard = position, heard

    def _look(self, found: Any) -> None:
        for name, entries in found if isinstance(found, list) else ():
            if (stream := name.decode()) in self._attended and self._heard:
                self._attended[stream] = entries[0][0].decode()
                self._heard()

    def close(self) -> None:
        """Close what is idle, and wake who waits for news."""
        self._shared.drop()
        for line in self._watches:
            line.hang_up()

    def _send(self) -> None:
        # What gathers while the server works goes out together: each order is a call of its own,
        # which may fail alone, and all share a round trip.
        try:
            while self._orders:
                batch = self._take()
                results = self._sent([it[0] for it in batch])
                for (_, answer), result in zip(batch, results, strict=True):
                    answer.set(result)
        finally:
            self._sending = False

    def _sent(self, orders: list[Order]) -> list[Any]:
        """Return the results, and in place of one what went wrong with it."""
        try:
            return self._results(orders)
        except Exception as error:  # noqa: BLE001 - who waits for an answer is given it
            if len(orders) == 1:
                skip("commit", error)
                return [error]
        return [result for order in orders for result in self._sent([order])]  # one is to blame

    def _take(self) -> list[tuple[Order, AsyncResult[Any]]]:
        batch: list[tuple[Order, AsyncResult[Any]]] = []
        size = 0
        while self._orders and size < _TOGETHER:
            batch.append(self._orders.popleft())
            size += sum(map(len, batch[-1][0]))
        return batch

    def _results(self, orders: list[Order]) -> list[Any]:
        results = self._shared.call(orders)
        if not any(isinstance(result, redis.OutOfMemoryError) for result in results):
            return results
        # Nothing was done. What is too old makes room, and then the oldest.
        trimmed = self._shared.call([self._relieve])[0]
        if isinstance(trimmed, int) and trimmed > 0:
            logger.warning("the event log's server is full: the oldest %d events went", trimmed)
        return _again(results, redis.OutOfMemoryError, orders, self._shared.call)


class _Line:
    """Some connections, over which the script is called."""

    def __init__(self, url: str, script: str, keys: Sequence[str], size: int, wait: float) -> None:
        self._script = script
        self._sha = sha1(script.encode()).hexdigest()  # noqa: S324 - how the server names it
        self._keys = (str(len(keys)), *keys)
        self._pool = _pool(url, size, wait)
        self._client = redis.Redis(connection_pool=self._pool)
        self.found: Any = None
        """What was waited for."""

    def call(self, orders: list[Order], after: dict[str, str] | None = None) -> list[Any]:
        """Return the answer to each order, or what went wrong with it.

        :param after: wait until one of some streams has more than its place, or for a while.
        """
        results = self._sent(["EVALSHA", self._sha], orders, after)
        if any(isinstance(result, NoScriptError) for result in results):
            # Nothing was done. The server may be a new one, and learns the script by this.
            teach = partial(self._sent, ["EVAL", self._script])
            results = _again(results, NoScriptError, orders, teach)
        if any(isinstance(result, RedisError) for result in results):
            # The others lead to the same place, which may be the wrong one by now: a new
            # connection looks the address up anew.
            self.drop()
        return results

    def drop(self) -> None:
        """Close what is idle."""
        self._pool.disconnect(inuse_connections=False)

    def hang_up(self) -> None:
        """Wake who waits."""
        # Only shut down: redis-py would take the buffer away from the greenlet that reads into it.
        for connection in self._pool._connections:  # noqa: SLF001 - see above
            if sock := connection._sock:  # noqa: SLF001 - see above
                with suppress(OSError):
                    sock.shutdown(SHUT_RDWR)

    def _sent(
        self, how: Order, orders: list[Order], after: dict[Any, Any] | None = None
    ) -> list[Any]:
        # All share a round trip. XREAD only waits; the script is called after it, and so sees what
        # was trimmed, or erased, in the meantime.
        try:
            with self._client.pipeline(transaction=False) as pipe:
                if after:
                    pipe.xread(after, count=1, block=round(_BLOCK * 1000))
                for order in orders:
                    pipe.execute_command(*how, *self._keys, *order)  # type: ignore[no-untyped-call]
                results = pipe.execute(raise_on_error=False)
                self.found = results[0] if after else None
                return results[-len(orders) :]
        except RedisError as error:
            return [error] * len(orders)


def _pool(url: str, size: int, wait: float) -> BlockingConnectionPool:
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=size,
        timeout=_TIMEOUT,
        socket_timeout=wait,
        socket_connect_timeout=_TIMEOUT,
        socket_keepalive=True,
        health_check_interval=30,
        client_name="tidings",
        protocol=2,  # nothing is sent to us unasked
        retry=Retry(NoBackoff(), 0),  # what was sent and not answered would be done twice
    )
    # One that is never connected: a wrong option shows now, and not when a reader is here.
    pool.connection_class(**pool.connection_kwargs)
    return pool


def _again(
    results: list[Any],
    refused: type[RedisError],
    orders: list[Order],
    call: Callable[[list[Order]], list[Any]],
) -> list[Any]:
    """Return the results, after those that were refused were asked for once more."""
    positions = [i for i, result in enumerate(results) if isinstance(result, refused)]
    fresh = dict(zip(positions, call([orders[i] for i in positions]), strict=True))
    return [fresh.get(i, result) for i, result in enumerate(results)]


def _checked(result: Any) -> Any:
    if not isinstance(result, Exception):
        return result
    if not isinstance(result, RedisError):
        raise result
    if "CERTIFICATE_VERIFY_FAILED" in str(result):
        raise ServiceUnavailable(*_UNTRUSTED) from result
    for kind, (detail, remedy) in _PROBLEMS.items():  # not the server's words: they may repeat data
        if isinstance(result, kind):
            raise ServiceUnavailable(detail, remedy) from result
    code, _, rest = str(result).partition(" ")
    if code == "WRONGKEY":
        key, _, expected = rest.partition(" ")
        what = f"The key {key} of the event log's server is no {expected.split()[0]}."
        raise ServiceUnavailable(what, _WRONG_KEY) from result
    code = getattr(result, "status_code", None) or code
    what = f"The log's server refuses ({code})."
    raise ServiceUnavailable(what, "See what its own log says.") from result


_AGAIN = (
    "Try again. What was being published may be in it: with an id of your own, nothing is"
    " published twice."
)
_WRONG_KEY = (
    "Delete the key where nobody else needs it, or name another database in TIDINGS_BROKER_URL."
)
_UNTRUSTED = (
    "Nobody who is known here has signed the certificate of the log's server.",
    "Where that is expected, end TIDINGS_BROKER_URL with ?ssl_cert_reqs=none.",
)
_PROBLEMS: dict[type[RedisError], tuple[str, str]] = {
    redis.AuthenticationError: (
        "The log's server refuses the password.",
        "Correct TIDINGS_BROKER_URL, or REDIS_URL.",
    ),
    NoPermissionError: (
        "The log's server does not let this user do what is needed.",
        "Permit it scripts, and the commands of streams, hashes, lists and sorted sets.",
    ),
    redis.OutOfMemoryError: (
        "The memory of the log's server is full.",
        "Give it more, or lower TIDINGS_HISTORY_BYTES.",
    ),
    redis.ReadOnlyError: ("The log's server has become a replica.", _AGAIN),
    redis.BusyLoadingError: ("The log's server is still loading its data.", _AGAIN),
    redis.TimeoutError: ("The log does not answer.", _AGAIN),
    redis.ConnectionError: ("The log cannot be reached.", _AGAIN),
}
