"""What a stream needs of its client's socket."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

MAX_STRAY_BYTES = 4 << 10
"""How much a client may send on its stream's connection before it is disconnected."""

Send = Callable[[Any, bytes], int]
Buffer = bytes | memoryview


class SubscriberSocket(Protocol):
    """A client's socket, as far as its stream needs it."""

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

    def answer_last(self) -> None:
        """Close the connection after this response, and say so in its headers."""


def never_sends(_: object, __: bytes) -> int:
    """Send nothing: the stream itself writes, where the dispatcher cannot write to its socket."""
    return 0


def nonblocking_send(socket: SubscriberSocket | None) -> tuple[bool, Send, object]:
    """Return how to write to a socket; to None, of a server that hands no socket over, never."""
    return socket.nonblocking_send() if socket else (False, never_sends, None)
