"""The methods that a hub calls when it starts and stops, and when a stream opens or ends.

Presence, the log lines about streams, and the demo use them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .delivery.subscriber import Subscriber


class Observer:
    """Is called by the hub. These do nothing; a subclass overrides those that it needs.

    An error in `opened` or `closed` is logged and counted, and the stream goes on.
    """

    def start(self) -> None:
        """The hub starts.

        :raises ServiceUnavailable: the hub cannot start now; this is then called again.
        """

    def stop(self) -> None:
        """The hub stops; its event log is still open."""

    def opened(self, subscriber: Subscriber) -> None:
        """A stream opens; nothing was sent on it yet."""

    def closed(self, subscriber: Subscriber) -> None:
        """A stream has ended; `subscriber.reason` says why, None for an error."""
