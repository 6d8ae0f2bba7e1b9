"""What a subscription needs of its reader's socket."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

MAX_STRAY_BYTES = 4 << 10
"""What a subscriber may send into its own stream before it is disconnected."""

Send = Callable[[Any, bytes], int]
Buffer = bytes | memoryview


class SubscriberSocket(Protocol):
    """A reader's socket, as far as its subscription needs it."""

    stalled: bool
    """Whether a write was given up because the reader did not read."""

    def direct(self) -> tuple[bool, Send, object]:
        """Return whether the body is chunked, what sends to it without waiting, and to what: called
        with that and some bytes it returns how many it sent, or raises OSError.
        """

    def sendall(self, data: Buffer) -> None:
        """Send a rest, waiting as long as the reader makes progress."""

    def watched(self, gone: Callable[[], None]) -> AbstractContextManager[None]:
        """Call `gone` as soon as the reader hangs up. What it sends meanwhile is thrown away."""

    def answer_last(self) -> None:
        """Let the connection end with the answer, which says so."""


def never_sends(_: object, __: bytes) -> int:
    """Leave all to the reader, where the dispatcher cannot write to its socket."""
    return 0


def direct(peer: SubscriberSocket | None) -> tuple[bool, Send, object]:
    """Return what a peer does, or that of a server which hands no socket over."""
    return peer.direct() if peer else (False, never_sends, None)
