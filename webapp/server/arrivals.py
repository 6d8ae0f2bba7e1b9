"""The order in which a worker serves connections whose bytes have arrived.

A client can send a request through each of thousands of connections at the same moment. The event
loop would serve all of them before it looks for I/O again, and would deliver no event meanwhile. So
in each turn of the loop some of them go on, and the others wait.

Client addresses take turns. Behind a proxy all clients have one address. So of one address, the
connection that has waited for the shortest time goes first: a client that comes after a thousand
requests does not wait for them. Each fourth time, the oldest connection goes first.
"""

from __future__ import annotations

import socket
from collections import OrderedDict, deque
from typing import Any, Protocol

from gevent.event import Event as Signal

from ..scheduling import Turns, yield_to_loop

_IPV6_NETWORK_BYTES = 8  # one customer has at least such a network (RFC 6177)
_OLDEST_FIRST_EVERY = 4  # connections of an address


class _Line:
    """The connections of an address that wait, the oldest first."""

    def __init__(self) -> None:
        self.signals: deque[Signal] = deque()
        self._chosen = 0

    def choose(self) -> Signal:
        self._chosen += 1
        oldest = self._chosen % _OLDEST_FIRST_EVERY == 0
        return self.signals.popleft() if oldest else self.signals.pop()


class Peer(Protocol):
    """A connection."""

    @property
    def peer_address(self) -> Any:
        """The client's address, as its socket has it."""


class Arrivals:
    """Lets connections go on, for a slice of time in each turn of the event loop.

    :param turns: the slices.
    """

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._has_next = False  # whether one waits for the next slice, and others for that one
        self._waiting: OrderedDict[str, _Line] = OrderedDict()  # by client, the next first

    def wait(self, peer: Peer) -> None:
        """Wait until a connection may go on. The present turn may have time left for it."""
        if self._has_next or not self._turns.has_time():
            self._wait(_client_of(peer))

    def _wait(self, client: str) -> None:
        if self._has_next:
            self._wait_in_line(client)
        self._has_next = True
        try:
            while not self._turns.has_time():
                yield_to_loop()
        finally:
            self._choose_next()

    def _wait_in_line(self, client: str) -> None:
        signal = Signal()
        self._waiting.setdefault(client, _Line()).signals.append(signal)
        try:
            signal.wait()
        except BaseException:
            if signal.is_set():
                self._choose_next()
            else:
                self._remove(client, signal)
            raise

    def _choose_next(self) -> None:
        self._has_next = bool(self._waiting)
        if self._has_next:
            client, line = self._waiting.popitem(last=False)
            signal = line.choose()
            if line.signals:
                self._waiting[client] = line
            signal.set()

    def _remove(self, client: str, signal: Signal) -> None:
        line = self._waiting[client]
        line.signals.remove(signal)
        if not line.signals:
            del self._waiting[client]


def _client_of(peer: Peer) -> str:
    address = peer.peer_address
    text: str = address[0] if isinstance(address, tuple) else ""
    if ":" not in text or text.startswith("::ffff:"):
        return text
    return socket.inet_pton(socket.AF_INET6, text.partition("%")[0])[:_IPV6_NETWORK_BYTES].hex()


arrivals = Arrivals(Turns())
"""The connections of this worker."""
