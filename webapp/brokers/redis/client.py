"""The connections of one process to a Redis or Valkey server.

It only calls scripts, over few connections, because small plans allow 20 in all: one for all
publishers of the process, two for all that read, and one for the follower.
"""

from __future__ import annotations

import logging
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any

import gevent
import redis
from gevent.event import AsyncResult
from gevent.lock import BoundedSemaphore
from redis import RedisError

from ...errors import Misconfigured, ServiceUnavailable
from ...tasks import skip
from .problems import raise_for_error
from .scripts import BLOCK_S, TIMEOUT_S, ScriptCall, ScriptPool, retry_where

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Watches = dict[str, tuple[str, Callable[[], None]]]  # stream: position and callback

logger = logging.getLogger(__name__)

_READ_CONNECTIONS = 2
_CALL_ONCE_TIMEOUT_S = 10.0  # how long a publisher waits
_DROPPED = "the memory of the event log's server is full: its oldest %d events were dropped"
_BATCH_BYTES = 256 << 10  # sent at once; at least one call
_MAX_PENDING_BYTES = 16 << 20  # of calls that wait or were sent; at least one call
_WATCH_PAUSE_S = 1.0  # after a stream could not be waited for


class RedisClient:
    """Calls scripts; each call raises `ServiceUnavailable` when the server does not do it.

    :param url: `redis://` or `rediss://`, with redis-py's options in its query.
    :param make_room: called when the server's memory is full.
    :raises Misconfigured: the URL has an option that does not exist.
    """

    def __init__(self, url: str, make_room: ScriptCall) -> None:
        self._url = url
        try:
            self._pool = ScriptPool(url, _READ_CONNECTIONS + 1)
        except (TypeError, ValueError, RedisError) as error:
            detail = "The URL of the event log has an unknown option, or a wrong value of one."
            remedy = "Correct what follows the ? in TIDINGS_BROKER_URL, or REDIS_URL."
            raise Misconfigured(detail, remedy) from error
        self._make_room = make_room
        self._blocking_pools: list[ScriptPool] = []
        self._watches: Watches = {}
        self._read_slots = BoundedSemaphore(_READ_CONNECTIONS)
        self._last_timeout = 0.0  # a monotonic time
        self._pending: deque[tuple[ScriptCall, AsyncResult[Any]]] = deque()
        self._pending_bytes = 0
        self._sending = False

    def call_once(self, call: ScriptCall) -> Any:
        """Call a script that writes. It is never repeated: after an error it may have been done.

        :raises ServiceUnavailable: as many bytes as may already wait to be sent or answered.
        """
        size = _size(call)
        if self._pending_bytes and self._pending_bytes + size > _MAX_PENDING_BYTES:
            detail = f"{_MAX_PENDING_BYTES >> 20} MiB already wait for the event log's server."
            raise ServiceUnavailable(detail, "Publish more slowly, and try again.")
        result: AsyncResult[Any] = AsyncResult()
        self._pending.append(pending := (call, result))
        self._pending_bytes += size
        if not self._sending:
            self._sending = True
            gevent.spawn(self._send_pending)
        try:
            result.wait(_CALL_ONCE_TIMEOUT_S)
        finally:
            if not result.ready() and pending in self._pending:
                self._pending.remove(pending)  # nobody waits for it any more
                self._pending_bytes -= size
        return self._checked(result.value if result.ready() else redis.TimeoutError())

    def call(self, call: ScriptCall) -> Any:
        """Call a script that reads."""
        gevent.sleep(0)  # a greenlet that calls again at once queues behind those that wait
        queued = monotonic()
        with self._read_slots:
            # If a call timed out after this one queued, fail at once: a thousand of them must not
            # wait for a time-out each.
            if self._last_timeout >= queued:
                return self._checked(redis.TimeoutError())
            [result] = self._results([call])
            if isinstance(result, redis.TimeoutError):
                self._last_timeout = monotonic()
        return self._checked(result)

    def blocking_reader(self, stream: str) -> BlockingReader:
        """Return a new reader of a stream, with a connection of its own."""
        pool = ScriptPool(self._url, 1, BLOCK_S + TIMEOUT_S)
        self._blocking_pools.append(pool)
        return BlockingReader(pool, stream, self._watches)

    def watch(self, stream: str, position: str, callback: Callable[[], None]) -> None:
        """Have all blocking readers call `callback` when another stream has an entry after a
        position.
        """
        self._watches[stream] = position, callback

    def close(self) -> None:
        """Close idle connections, and interrupt blocking readers."""
        self._pool.disconnect_idle()
        for pool in self._blocking_pools:
            pool.interrupt()

    def _checked(self, result: Any) -> Any:
        return raise_for_error(result, self._pool.address)

    def _send_pending(self) -> None:
        # Calls that gather while the server works share a round trip; each may fail alone.
        try:
            while self._pending:
                batch = self._next_batch()
                try:
                    results = self._results_or_errors([call for call, _ in batch])
                finally:
                    self._pending_bytes -= sum(_size(call) for call, _ in batch)
                for (_, answer), result in zip(batch, results, strict=True):
                    answer.set(result)
        finally:
            self._sending = False

    def _next_batch(self) -> list[tuple[ScriptCall, AsyncResult[Any]]]:
        batch: list[tuple[ScriptCall, AsyncResult[Any]]] = []
        size = 0
        while self._pending and size < _BATCH_BYTES:
            batch.append(self._pending.popleft())
            size += _size(batch[-1][0])
        return batch

    def _results_or_errors(self, calls: list[ScriptCall]) -> list[Any]:
        try:
            results = self._results(calls)
            if any(isinstance(result, redis.OutOfMemoryError) for result in results):
                # Nothing was done. Old events make room, and then the oldest ones.
                [dropped] = self._results([self._make_room])
                if isinstance(dropped, int) and dropped > 0:
                    logger.warning(_DROPPED, dropped)
                results = retry_where(results, redis.OutOfMemoryError, calls, self._results)
        except Exception as error:  # noqa: BLE001 - it is raised where the result is waited for
            if len(calls) == 1:
                skip("commit", error)
                return [error]
        else:
            return results
        # One call is the cause: make each by itself.
        return [result for call in calls for result in self._results_or_errors([call])]

    def _results(self, calls: Sequence[ScriptCall]) -> list[Any]:
        return self._pool.call(calls)[1]


class BlockingReader:
    """A connection that can wait for new entries of streams before it calls a script."""

    def __init__(self, pool: ScriptPool, stream: str, watches: Watches) -> None:
        self._pool = pool
        self._stream = stream
        self._watches = watches

    def call(self, call: ScriptCall, after: str | None) -> Any:
        """Call a script.

        :param after: wait until the stream has an entry after this position, or a watched one has
            a new entry, or for `BLOCK_S`. None: do not wait.
        """
        positions = {stream: position for stream, (position, _) in self._watches.items()}
        if after:
            positions[self._stream] = after
        found, [result] = self._pool.call([call], positions, wait=bool(after))
        self._notify(found)
        return raise_for_error(result, self._pool.address)

    def _notify(self, found: Any) -> None:
        if isinstance(found, RedisError):
            # If it is about the event log, its call fails, too. Other streams are watched again
            # when they have been read.
            logger.warning("cannot wait for new entries (%s)", str(found).partition(" ")[0])
            if not self._watches:
                gevent.sleep(_WATCH_PAUSE_S)
            self._watches.clear()
        for name, entries in found if isinstance(found, list) else ():
            if watch := self._watches.get(stream := name.decode()):
                self._watches[stream] = entries[0][0].decode(), watch[1]
                watch[1]()


def _size(call: ScriptCall) -> int:
    return sum(map(len, call.arguments))
