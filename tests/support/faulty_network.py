"""Networks that can hang, be cut, and lead elsewhere."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class FaultyNetwork:
    """A network between hubs and a server: it can hang, be cut, and lead to another server."""

    def __init__(self, port: int) -> None:
        self.target = port
        self._flows = threading.Event()
        self._flows.set()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    @property
    def url(self) -> str:
        """Where the hubs believe the server to be."""
        return f"redis://127.0.0.1:{self.port}/0"

    def hang(self) -> None:
        """Take what is sent and forward nothing, as a cable that was pulled."""
        self._flows.clear()

    def resume(self) -> None:
        """Forward again, also what was sent meanwhile."""
        self._flows.set()

    def redirect(self, port: int) -> None:
        """Lead new connections to another server; those that are open stay."""
        self.target = port

    def cut(self) -> None:
        """Reset all connections."""
        for end in self._sockets:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End it."""
        self.resume()
        # Shut down first: closing alone does not wake the thread that accepts.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads.pop(0).join(PATIENCE)
        self.cut()  # what it accepted last, too
        while self._threads:
            self._threads.pop().join(PATIENCE)
        for end in (self._listener, *self._sockets):
            end.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self.target))
                except ConnectionError:
                    near.close()
                    continue
                self._sockets += [near, far]
                for source, sink in ((near, far), (far, near)):
                    self._start(self._forward, source, sink)

    def _start(self, task: Callable[..., None], *args: Any) -> None:
        self._threads.append(threading.Thread(target=task, args=args, daemon=True))
        self._threads[-1].start()

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                self._flows.wait()
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def canned_server(*answers: bytes) -> Iterator[str]:
    """A server that gives each client, in turn, an answer, whatever it asks; yield its URL."""

    def answer_each() -> None:
        with suppress(OSError):
            for answer in answers:
                client, _ = listener.accept()
                with client:
                    client.recv(1 << 16)
                    client.sendall(answer)
                    client.recv(1)  # until it leaves

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        thread = threading.Thread(target=answer_each)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(PATIENCE)


class FaultyHttpNetwork(FaultyNetwork):
    """A network between clients and a hub, which can also lose answers."""

    loses_answers = False

    def __init__(self, port: int) -> None:
        self.asked: list[bytes] = []  # of a proxy
        super().__init__(port)

    @property
    def url(self) -> str:
        """Where a client believes the hub to be."""
        return f"http://127.0.0.1:{self.port}"

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            answers = source.getpeername()[1] == self.target
            while data := source.recv(1 << 16):
                self._flows.wait()
                if not (answers and self.loses_answers):
                    sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class ConnectProxy(FaultyHttpNetwork):
    """A proxy as companies have them: it is asked for a tunnel first (RFC 9110, section 9.3.6)."""

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        if source.getpeername()[1] != self.target:
            self.asked.append(source.recv(1 << 16).partition(b"\r\n")[0])
            source.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        super()._forward(source, sink)


@contextmanager
def http_network(
    port: int, kind: type[FaultyHttpNetwork] = FaultyHttpNetwork
) -> Iterator[FaultyHttpNetwork]:
    """Lead a way to a hub."""
    found = kind(port)
    try:
        yield found
    finally:
        found.close()
