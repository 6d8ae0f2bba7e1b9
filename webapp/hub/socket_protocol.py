"""What a stream needs of its client's socket, and how a server may keep parked streams.

A stream is a generator. It is *parked* while it has nothing to send; the dispatcher then writes to
its socket directly, and the generator has to go on only now and then. There are two kinds of
servers:

- One that only iterates, as WSGI has it. Its socket's `wakeup` is None, or there is no
  socket. `next()` then waits while the stream is parked.
- One that keeps parked streams itself, without a greenlet for each. Its socket has a `wakeup`.
  `next()` then returns `PARKED`, and the server keeps the suspended generator. Once the stream has
  something to do it calls `wakeup.set()`, and the server has to call `next()` soon, from a greenlet
  (it may wait: for the event log, or for a slow client), or `close()` where the client has left.

Between the stream and the server there may be code of an app that changes the body, such as one
that compresses it. Then nothing may be written to the socket directly, and nobody keeps the stream
when it is parked. So the stream waits as it does under a server of the first kind.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

MAX_STRAY_BYTES = 4 << 10
"""How much a client may send on its stream's connection before it is disconnected."""


class _Parked(bytes):
    """Code that changes the body makes another empty text of it."""


PARKED = _Parked()
"""What a stream yields when it is parked."""


class LastFrame(bytes):
    """What a stream yields last. Nothing that waits follows, so its server may send this and the
    end of the body together.
    """

    __slots__ = ()


Send = Callable[[Any, bytes], int]
Buffer = bytes | memoryview


class Wakeup(Protocol):
    """Continues a stream."""

    def set(self) -> None:
        """Let the stream go on soon, but not before this returns. This may also be called more
        than once, or when the stream is not parked; it then goes on once, and parks again.
        """


class Keeper(Wakeup, Protocol):
    """Keeps a parked stream, and continues it."""

    keeps_stream: bool
    """Whether `PARKED` has arrived there. The stream clears it before it yields that."""


class SubscriberSocket(Protocol):
    """A client's socket, as far as its stream needs it."""

    is_stream: bool
    """Whether the response is the stream as it is. Known when the stream is first iterated."""

    wakeup: Keeper | None
    """Continues the stream, if the server keeps parked streams itself; None: it only iterates."""

    write_timed_out: bool
    """Whether a write was given up because the client did not read."""

    def nonblocking_send(self) -> tuple[bool, Send, object]:
        """Return how to write to the socket without waiting.

        :returns: whether the body is chunked; a function; and its first argument. Called with that
            and some bytes, the function returns how many it sent, or raises OSError.
        """

    def sendall(self, data: Buffer) -> None:
        """Send all of `data`, waiting as long as the client makes progress."""

    def on_hangup(self, hung_up: Callable[[], None]) -> AbstractContextManager[None]:
        """Call `hung_up` as soon as the client hangs up. What it sends meanwhile is dropped."""

    def abort(self) -> None:
        """Close the connection, also in the middle of a write."""

    def answer_last(self) -> None:
        """Close the connection after this response, and say so in its headers."""


def never_sends(_: object, __: bytes) -> int:
    """Send nothing: the stream itself writes, where the dispatcher cannot write to its socket."""
    return 0
