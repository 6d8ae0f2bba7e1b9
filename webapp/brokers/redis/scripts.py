"""Lua scripts that Redis or Valkey runs, and the connections over which they are called."""

from __future__ import annotations

from contextlib import suppress
from hashlib import sha1
from pathlib import Path
from socket import SHUT_RDWR
from typing import TYPE_CHECKING, Any, NamedTuple

import gevent
import redis
from redis import BlockingConnectionPool, RedisError
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError
from redis.retry import Retry

from ...loop_thread import has_gevent
from ..blocking import Blocking

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Positions = dict[Any, Any]  # by stream

TIMEOUT_S = 3.0  # to connect, and for an answer
_DEADLINES = 4  # time-outs for the whole of an answer, however slowly it comes
BLOCK_S = 2.0  # how long a call waits for an entry of a stream


class Script:
    """A Lua program whose first argument is a verb.

    :param files: of this folder, one after the other.
    :param keys: what it works on.
    """

    def __init__(self, files: Sequence[str], keys: Sequence[str]) -> None:
        text = "\n".join((Path(__file__).parent / file).read_text() for file in files)
        sha = sha1(text.encode()).hexdigest()  # noqa: S324 - how the server names it
        keys = (str(len(keys)), *keys)
        self.by_name = ("EVALSHA", sha, *keys)
        self.by_text = ("EVAL", text, *keys)  # the server learns it by this


class ScriptCall(NamedTuple):
    """A verb of a script, and its arguments."""

    script: Script
    arguments: Sequence[str]


class ScriptPool:
    """Some connections over which scripts are called.

    :param url: `redis://` or `rediss://`, with redis-py's options in its query.
    :param wait: seconds for an answer.
    """

    def __init__(self, url: str, size: int, wait: float = TIMEOUT_S) -> None:
        self._pool = BlockingConnectionPool.from_url(
            url,
            max_connections=size,
            timeout=TIMEOUT_S,
            socket_timeout=wait,
            socket_connect_timeout=TIMEOUT_S,
            socket_keepalive=True,
            health_check_interval=30,
            client_name="tidings",
            protocol=2,  # the server sends nothing unasked
            retry=Retry(NoBackoff(), 0),  # a call that was sent and not answered may have been done
        )
        self._deadline_s = _DEADLINES * wait
        self._threads = None if has_gevent() else Blocking(size)
        options = self._pool.connection_kwargs
        # Build (not open) one connection, so that a bad URL option fails at the start.
        self._pool.connection_class(**options)
        self.address = f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
        self._client = redis.Redis(connection_pool=self._pool)

    def call(
        self, calls: Sequence[ScriptCall], after: Positions | None = None, *, wait: bool = False
    ) -> tuple[Any, list[Any]]:
        """Return the new entries, and the result of each call or its error.

        :param after: positions by stream. Before the calls, look for one entry after each.
        :param wait: until there is one, or for `BLOCK_S`.
        """
        commands = [(*it.script.by_name, *it.arguments) for it in calls]
        found, results = self._send(commands, after, round(BLOCK_S * 1000) if wait else None)
        if any(isinstance(result, NoScriptError) for result in results):
            # Nothing was done: the server is a new one, or has forgotten its scripts.
            results = retry_where(results, NoScriptError, calls, self._teach)
        if any(isinstance(it, RedisError) and "nknown command" in str(it) for it in results):
            results = self._name_sentinel(results)
        if any(isinstance(result, RedisError) for result in results):
            # Drop the idle connections as well: after a failover they lead to the old server, and
            # a new connection resolves the address again.
            self.disconnect_idle()
        return found, results

    def disconnect_idle(self) -> None:
        """Close all connections that are not in use."""
        self._pool.disconnect(inuse_connections=False)

    def interrupt(self) -> None:
        """Make all calls that wait fail."""
        # Only shut down. redis-py's disconnect would free the buffer that a greenlet reads into.
        for connection in self._pool._connections:  # noqa: SLF001 - see above
            if sock := connection._sock:  # noqa: SLF001 - see above
                with suppress(OSError):
                    sock.shutdown(SHUT_RDWR)

    def _name_sentinel(self, results: list[Any]) -> list[Any]:
        """Return other errors if the server is a Sentinel, which knows none of these commands."""
        options = {**self._pool.connection_kwargs, "db": 0}  # nor SELECT
        connection = self._pool.connection_class(**options)
        try:
            connection.send_command("ROLE")
            role = connection.read_response()
        except RedisError:
            return results
        finally:
            connection.disconnect()
        is_sentinel = isinstance(role, list) and role[:1] == [b"sentinel"]
        return [redis.ResponseError("SENTINEL")] * len(results) if is_sentinel else results

    def _teach(self, calls: Sequence[ScriptCall]) -> list[Any]:
        return self._send([(*it.script.by_text, *it.arguments) for it in calls])[1]

    def _send(
        self,
        commands: list[tuple[str, ...]],
        after: Positions | None = None,
        wait_ms: int | None = None,
    ) -> tuple[Any, list[Any]]:
        late = redis.TimeoutError("no whole answer in time")
        try:
            with gevent.Timeout(self._deadline_s, late):
                if self._threads:
                    return self._threads.call(self._exchange, commands, after, wait_ms)
                return self._exchange(commands, after, wait_ms)
        except RedisError as error:
            if self._threads and error is late:
                self.interrupt()  # a thread waits for it
            return None, [error] * len(commands)

    def _exchange(
        self, commands: list[tuple[str, ...]], after: Positions | None, wait_ms: int | None
    ) -> tuple[Any, list[Any]]:
        # All share a round trip. XREAD only waits: the script is called after it, and so it sees
        # what was trimmed or erased in the meantime.
        with self._client.pipeline(transaction=False) as pipe:
            if after:
                pipe.xread(after, count=1, block=wait_ms)
            for command in commands:
                pipe.execute_command(*command)  # type: ignore[no-untyped-call]
            results = pipe.execute(raise_on_error=False)
        return results[0] if after else None, results[-len(commands) :]


def retry_where(
    results: list[Any],
    refused: type[RedisError],
    calls: Sequence[ScriptCall],
    call: Callable[[Sequence[ScriptCall]], list[Any]],
) -> list[Any]:
    """Return the results, after calls that were refused have been made once more."""
    indexes = [index for index, result in enumerate(results) if isinstance(result, refused)]
    again = dict(zip(indexes, call([calls[index] for index in indexes]), strict=True))
    return [again.get(index, result) for index, result in enumerate(results)]
