"""PostgreSQL, for real: it keeps the event log of several machines."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest

from support.ports import free_port
from support.processes import state
from support.programs import need
from support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NOT_DURABLE = ("fsync=off", "full_page_writes=off", "max_connections=60", "shared_buffers=16MB")
_numbers = count()


class PostgresServer:
    """A real PostgreSQL. As root it refuses to run: then it runs as the user of Debian's package.

    :param folder: what it stores is kept here.
    :param settings: such as `max_connections=10`.
    :param prefix: begins the command of the server.
    :param primary: a server whose standby this one is.
    """

    def __init__(
        self,
        folder: Path,
        *settings: str,
        prefix: Sequence[str] = (),
        primary: PostgresServer | None = None,
    ) -> None:
        pytest.importorskip("psycopg", reason="psycopg is an extra of the package")
        self.folder = folder
        self.port = free_port()
        self._settings = settings
        self._prefix = prefix
        self._log = folder / "server.log"
        self.as_user = list[str]()
        if os.geteuid() == 0:
            self.as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
            shutil.chown(folder, "postgres", "postgres")
        if primary:
            options = ["--checkpoint=fast", "--write-recovery-conf", "--dbname", primary.url()]
            self._run("pg_basebackup", "--no-sync", *options, "--pgdata", str(folder / "data"))
        else:
            options = ["--username=hub", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"]
            self._run("initdb", "--no-sync", *options, "--pgdata", str(folder / "data"))
        self.start()

    def start(self) -> None:
        """Start it, on the port that it had."""
        given = {"unix_socket_directories": str(self.folder), "listen_addresses": "127.0.0.1"}
        settings = [f"{name}={value}" for name, value in given.items()]
        options = [text for it in (*settings, *self._settings) for text in ("-c", it)]
        data = str(self.folder / "data")
        command = [*self._prefix, *self.as_user, _program("postgres")]
        command += ["-D", data, "-p", str(self.port), *options]
        with self._log.open("wb") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out, cwd=self.folder)
        until(self._is_ready, "the log's server is up")

    def stop(self, how: int = signal.SIGQUIT) -> None:
        """Stop it: by default without mercy; what it has written stays."""
        self.process.send_signal(how)
        self.process.wait(PATIENCE)

    def kill(self) -> None:
        """Kill it with all its processes, as a machine that loses power."""
        backends = self.backends()
        _signal(backends, signal.SIGKILL)
        self.process.wait(PATIENCE)
        until(lambda: not any(map(_is_running, backends[1:])), "all its processes have ended")

    def restart(self) -> None:
        """Kill it and start it again."""
        self.kill()
        self.start()

    def backends(self) -> list[int]:
        """Return the numbers of its processes, the first one too."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [self.process.pid, *map(int, children.split())]

    def freeze(self) -> None:
        """Stop all its processes where they are: the first one before it starts another."""
        frozen = set[int]()
        while still := [pid for pid in self.backends() if pid not in frozen]:
            os.kill(still[0], signal.SIGSTOP)
            until(lambda pid=still[0]: state(pid) in "TZ", "it stands still")  # type: ignore[misc]
            frozen.add(still[0])

    def thaw(self) -> None:
        """Let all its processes go on."""
        _signal(self.backends(), signal.SIGCONT)

    def admit(self, network: str) -> None:
        """Let everybody in a network connect."""
        self.add_rule(f"host all all {network} trust")

    def add_rule(self, line: str) -> None:
        """Begin the rules of who may connect with a line; it counts for new connections."""
        rules = self.folder / "data" / "pg_hba.conf"
        rules.write_text(f"{line}\n{rules.read_text()}")
        self.ask("SELECT pg_reload_conf()")

    def url(self, database: str = "postgres", user: str = "hub") -> str:
        """Return where a database is."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def new_log(self) -> str:
        """Return the URL of a database without an event log; it is the same one at each call."""
        self.ask("DROP SCHEMA IF EXISTS tidings CASCADE")
        return self.url()

    def new_database(self) -> str:
        """Create a database, and return its URL."""
        name = f"log{next(_numbers)}"
        self.ask(f"CREATE DATABASE {name}")
        return self.url(name)

    def ask(self, query: str, *values: Any, url: str | None = None) -> list[Any]:
        """Return the rows of a statement."""
        import psycopg

        with psycopg.connect(url or self.url(), autocommit=True) as connection:
            cursor = connection.execute(query, values or None)
            return cursor.fetchall() if cursor.description else []

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self.as_user, _program(program), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.folder, check=False)
        assert done.returncode == 0, done.stderr

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, self._log.read_text(errors="replace")
        import psycopg

        try:
            return bool(self.ask("SELECT 1"))
        except psycopg.OperationalError:
            return False


@contextmanager
def running_postgres(*settings: str, **options: Any) -> Iterator[PostgresServer]:
    """Run a server; it is gone afterwards. Its folder is none of pytest's, which other users may
    not enter, and whose path may be too long for a socket.
    """
    with TemporaryDirectory(prefix="tidings-") as folder:
        server = PostgresServer(Path(folder), *(settings or NOT_DURABLE), **options)
        try:
            yield server
        finally:
            if server.process.poll() is None:
                server.thaw()
                server.stop()


def _program(name: str) -> str:
    """Return the path of a program: Debian's are in a folder for each version."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(found[-1]) if found else need(name)


def _signal(processes: list[int], number: int) -> None:
    """Send them all a signal. The first ones that get it may let others end."""
    for pid in processes:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _is_running(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
