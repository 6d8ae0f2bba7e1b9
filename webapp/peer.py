"""What a subscription needs of its reader's socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from webapp.wire import Payload

Buffer = bytes | memoryview


class Peer(Protocol):
    """A reader's socket, as far as its subscription needs it."""

    stalled: bool
    """Whether a write was given up because the reader did not read."""

    def send_now(self, payload: Payload) -> Buffer:
        """Send what fits without waiting; return the rest. Raise OSError where nobody is left."""

    def sendall(self, data: Buffer) -> None:
        """Send such a rest, waiting as long as the reader makes progress."""

    def watched(self, gone: Callable[[], None]) -> AbstractContextManager[None]:
        """Call `gone` as soon as the reader hangs up."""
