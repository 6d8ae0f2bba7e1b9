"""What a stream writes to where the server serves each request in a thread.

The stream runs in the hub's thread and writes here, as it would to its client's socket. The
request's thread takes what was written, and its server sends it.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import closing, contextmanager
from threading import Condition
from typing import TYPE_CHECKING

from gevent.event import Event as Signal

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from ...loop_thread import LoopThread
    from ..socket_protocol import Buffer, Keeper, Send
    from .client_watch import ClientWatch
    from .stream import Stream

_BUFFER_BYTES = 64 << 10  # that may wait for the request's thread
_PART_BYTES = 16 << 10  # that it takes at once
_LOOK_S = 1.0  # between two looks at the client, where nothing is written


class ThreadSocket:
    """A `SubscriberSocket` for the hub; the request's thread has its `ThreadFrames`.

    :param loop: the hub's thread.
    :param client: notices that the client has left.
    :param write_timeout: seconds for which the stream waits until a part is taken.
    """

    is_stream = True
    wakeup: Keeper | None = None

    def __init__(self, loop: LoopThread, client: ClientWatch, write_timeout: float) -> None:
        self.write_timed_out = False
        self._loop = loop
        self._client = client
        self._write_timeout = write_timeout
        self._changed = Condition()  # guards what follows
        self._bytes = bytearray()
        self._is_full = self._is_closed = self._has_ended = False
        self._error: Exception | None = None
        self._has_room = Signal()
        self._hung_up: Callable[[], None] | None = None

    # In the hub's thread

    def run(self, stream: Stream) -> None:
        """Write all that the stream sends, until its end."""
        error: Exception | None = None
        try:
            with closing(self._client), closing(stream.frames(self)) as frames:  # type: ignore[type-var]
                for frame in frames:
                    self.sendall(frame)
        except BrokenPipeError:
            pass  # the client left, or does not read
        except Exception as failure:  # noqa: BLE001 - the request's thread raises it
            error = failure
        finally:
            with self._changed:
                self._has_ended, self._error = True, error
                self._changed.notify()

    def nonblocking_send(self) -> tuple[bool, Send, object]:
        """Return how to write without waiting; the server makes the chunks."""
        return False, ThreadSocket._put, self

    def _put(self, data: Buffer) -> int:
        with self._changed:
            if self._is_closed:
                raise BrokenPipeError(errno.EPIPE, "the client disconnected")
            part = data[: _BUFFER_BYTES - len(self._bytes)]
            self._bytes += part
            self._is_full = len(part) < len(data)
            self._changed.notify()
            return len(part)

    def sendall(self, data: Buffer) -> None:
        """Write all of `data`.

        :raises BrokenPipeError: the client has left, or does not read.
        """
        rest = memoryview(data)
        while rest := rest[self._put(rest) :]:
            if not self._has_room.wait(self._write_timeout):
                self.write_timed_out = True
                self._client.disconnect()  # the request's thread may wait for it without end
                raise BrokenPipeError(errno.EPIPE, "the client does not read")
            self._has_room.clear()

    def on_hangup(self, hung_up: Callable[[], None]) -> AbstractContextManager[None]:
        """Call `hung_up` when the client hangs up."""
        return self._watched(hung_up)

    @contextmanager
    def _watched(self, hung_up: Callable[[], None]) -> Iterator[None]:
        self._hung_up = hung_up
        if self._is_closed:
            hung_up()
        with self._client.watched(hung_up):
            yield

    def _wake(self) -> None:
        self._has_room.set()
        if self._is_closed and self._hung_up:
            self._hung_up()

    def abort(self) -> None:
        """Send nothing more of what was written, and end the connection."""
        with self._changed:
            self._bytes.clear()
            self._is_closed = True
            self._changed.notify()
        self._client.disconnect()
        self._has_room.set()

    def answer_last(self) -> None:
        """Do nothing: nothing was read from the client."""

    # In the request's thread

    def take(self) -> bytes:
        """Return the next bytes when there are some; none: the stream has ended."""
        with self._changed:
            while not (self._bytes or self._has_ended or self._is_closed):
                self._changed.wait(_LOOK_S)
                if not self._client.is_connected():
                    return b""
            part = bytes(self._bytes[:_PART_BYTES])
            del self._bytes[:_PART_BYTES]
            was_full, self._is_full = self._is_full, False
        if was_full:
            self._loop.notify(self._wake)
        if self._error and not part:
            raise self._error
        return part

    def close(self) -> None:
        """End the stream: the server has ended the response."""
        with self._changed:
            if self._is_closed:
                return
            self._is_closed = True
        self._loop.notify(self._wake)


class ThreadFrames(Iterator[bytes]):
    """The body of a response: what its stream writes.

    :param on_close: called once, when the server has ended the response.
    """

    def __init__(self, socket: ThreadSocket, on_close: Callable[[], None]) -> None:
        self._socket = socket
        self._on_close: Callable[[], None] | None = on_close

    def __next__(self) -> bytes:
        if part := self._socket.take():
            return part
        raise StopIteration

    def close(self) -> None:
        """End the stream."""
        on_close, self._on_close = self._on_close, None
        if on_close:
            self._socket.close()
            on_close()

    __del__ = close  # a response may be dropped before it is sent
