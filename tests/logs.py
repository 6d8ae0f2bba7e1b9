"""Servers that keep a log of many machines, and a network between them and it that can fail."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from contextlib import contextmanager, suppress
from random import sample
from typing import TYPE_CHECKING, Any

import redis
from conftest import PATIENCE, need, until
from redis.backoff import NoBackoff
from redis.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

IN_MEMORY = ("--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0")


class LogServer:
    """A real Redis or Valkey.

    :param program: `redis-server` or `valkey-server`.
    :param folder: what it persists is kept here.
    :param options: as on its command line.
    """

    def __init__(self, program: str, folder: Path, *options: str) -> None:
        self._command = [need(program), "--dir", str(folder), "--bind", "127.0.0.1", *options]
        self._log = folder / "server.log"
        self.port = free_port()
        self.start()

    def start(self) -> None:
        """Start it, on the port that it had."""
        with self._log.open("wb") as out:
            command = [*self._command, "--port", str(self.port)]
            self.process = subprocess.Popen(command, stdout=out, stderr=out)
        until(self._ready, "the log's server is up")

    def stop(self) -> None:
        """Stop it without mercy; what it persisted stays."""
        self.process.kill()
        self.process.wait(PATIENCE)

    def restart(self) -> None:
        """Stop it and start it again."""
        self.stop()
        self.start()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis://127.0.0.1:{self.port}/0"

    def ask(self, *command: Any) -> Any:
        """Return its answer to a command."""
        once = Retry(NoBackoff(), 0)
        with redis.Redis(port=self.port, decode_responses=True, retry=once) as client:
            return client.execute_command(*command)

    def _ready(self) -> bool:
        said = self._log.read_text(errors="replace")
        assert self.process.poll() is None, said
        return "eady to accept connections" in said


@contextmanager
def running_log(program: str, folder: Path, *options: str) -> Iterator[LogServer]:
    """Run a server; it is gone afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    server = LogServer(program, folder, *(options or IN_MEMORY))
    try:
        yield server
    finally:
        server.stop()


def ports() -> Iterator[int]:
    """Yield ports that other processes with tests do not, none of them twice."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    mine = range(20_000 + number, 32_000, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
    yield from sample(mine, len(mine))


PORTS = ports()


def free_port() -> int:
    """Return a port that nobody listens to, nor is given to a client while its server is down.

    It is not given again: hubs may look for a server there long after it has gone.
    """
    while True:
        port = next(PORTS)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class Network:
    """What lies between the hubs and a server: it can be led elsewhere, and it can hang."""

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

    def mend(self) -> None:
        """Forward again, also what was sent meanwhile."""
        self._flows.set()

    def lead(self, port: int) -> None:
        """Lead new connections to another server; those that are there stay."""
        self.target = port

    def cut(self) -> None:
        """Reset all connections."""
        for end in self._sockets:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End it."""
        self.mend()
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
