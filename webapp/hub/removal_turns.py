"""The turns in which clients remove events: a client has one removal at a time."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from ..core.events import EventId
from .read_queue import Reading, ReadQueue

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .socket_protocol import SubscriberSocket
    from .waiting_clients import WaitingClients

_ANYWHERE = EventId(0, 0)


class RemovalTurns:
    """Lets the removals of each client wait for one another, and not for those of others. One whose
    client disconnects while it waits is not done.
    """

    def __init__(self, waiting_clients: WaitingClients) -> None:
        self._waiting_clients = waiting_clients
        self._queues: dict[str, ReadQueue] = {}
        self._removals: Counter[str] = Counter()  # by client; removals that wait count

    @contextmanager
    def turn(self, client: str, socket: SubscriberSocket | None) -> Iterator[None]:
        """Wait for the client's turn, and remove events inside the context. A client that had to
        wait is answered on a connection that closes then.

        :raises ServiceUnavailable: the client disconnected, or the hub stops.
        """
        queue = self._queues.setdefault(client, ReadQueue(1, _may_always))
        self._removals[client] += 1
        try:
            with ExitStack() as stack:
                if self._removals[client] == 1:
                    stack.enter_context(queue.turn(Reading(client), _ANYWHERE))
                else:
                    with self._waiting_clients.read_for(client, socket) as reading:
                        stack.enter_context(queue.turn(reading, _ANYWHERE))
                    if socket:
                        socket.answer_last()  # what it sent meanwhile was thrown away
                yield
        finally:
            self._removals[client] -= 1
            if not self._removals[client]:
                del self._removals[client], self._queues[client]


def _may_always(_: str) -> bool:
    return True
