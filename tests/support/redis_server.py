"""Redis and Valkey, for real: they keep the event log of several machines."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from support.ports import free_port
from support.processes import state
from support.programs import need
from support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PATIENT = "socket_timeout=20&socket_connect_timeout=20&timeout=20"
IN_MEMORY = ("--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0")


class RedisServer:
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

    def freeze(self) -> None:
        """Stop it where it is."""
        self.process.send_signal(signal.SIGSTOP)
        until(lambda: state(self.process.pid) == "T", "it stands still")

    def thaw(self) -> None:
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """Stop it and start it again."""
        self.stop()
        self.start()

    @property
    def url(self) -> str:
        """Where it is; who connects is patient, as it may get little CPU."""
        return f"{self.base_url}0?{_PATIENT}"

    @property
    def base_url(self) -> str:
        """Where its databases are."""
        return f"redis://127.0.0.1:{self.port}/"

    def ask(self, *command: Any) -> Any:
        """Return its answer to a command."""
        once = Retry(NoBackoff(), 0)
        with redis.Redis(port=self.port, decode_responses=True, retry=once) as client:
            return client.execute_command(*command)

    def _ready(self) -> bool:
        said = self._log.read_text(errors="replace")
        assert self.process.poll() is None, said
        return "eady to accept connections" in said


Run = Callable[..., RedisServer]
"""Start a server: `run("--maxmemory", "4mb")`."""


@contextmanager
def running_redis(program: str, folder: Path, *options: str) -> Iterator[RedisServer]:
    """Run a server; it is gone afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    server = RedisServer(program, folder, *(options or IN_MEMORY))
    try:
        yield server
    finally:
        server.stop()
