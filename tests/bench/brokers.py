"""A run's broker: a Redis, a Valkey or a PostgreSQL of its own, a SQLite file, or memory."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROGRAMS = {"redis": "redis-server", "valkey": "valkey-server"}
_NOTHING_ON_DISK = ("--save", "", "--appendonly", "no", "--logfile", "log")
_START_TIMEOUT_S = 15


def missing_program(name: str) -> str:
    """Return the program that a broker needs and that is not installed, or nothing."""
    if name.startswith("postgres"):
        return "" if Path(postgres_program("postgres")).exists() else "postgres"
    program = _PROGRAMS.get(name, "")
    return "" if not program or shutil.which(program) else program


@contextmanager
def event_log(name: str) -> Iterator[str]:
    """Run a broker with an empty event log; give its URL. The name may bring options of the URL."""
    name, mark, options = name.partition("?")
    if name == "memory":
        yield "memory://"
        return
    with TemporaryDirectory() as folder:
        if name == "sqlite":
            yield f"sqlite:///{folder}/tidings.db"
        elif name == "postgres":
            with serving_postgres(folder) as port:
                yield f"postgresql://bench@127.0.0.1:{port}/postgres{mark}{options}"
        else:
            with serving(_PROGRAMS[name], folder) as port:
                yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def serving(program: str, folder: str) -> Iterator[int]:
    """Run a Redis or a Valkey; give its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = ("--port", str(port), "--bind", "127.0.0.1", "--dir", folder)
    with subprocess.Popen([program, *options, *_NOTHING_ON_DISK]) as process:
        try:
            if not answers(port, b"PING\r\n", b"+PONG"):
                sys.exit(f"{program} does not answer:\n{Path(folder, 'log').read_text()}")
            yield port
        finally:
            process.kill()


@contextmanager
def serving_postgres(folder: str) -> Iterator[int]:
    """Run a PostgreSQL with its own defaults: each commit waits for the disk. Give its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    if os.geteuid() == 0:  # it refuses to run as root
        shutil.chown(folder, "postgres", "postgres")
    else:
        user = []
    data = f"{folder}/data"
    options = ["--username=bench", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"]
    init = [postgres_program("initdb"), *options, "--pgdata", data]
    subprocess.run([*user, *init], check=True, stdout=subprocess.DEVNULL, cwd=folder)
    where = ["-D", data, "-p", str(port), "-k", folder, "-h", "127.0.0.1"]
    command = [*user, postgres_program("postgres"), *where]
    with (
        Path(folder, "log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log, cwd=folder) as process,
    ):
        try:
            if not is_ready(port):
                sys.exit(f"postgres does not answer:\n{Path(folder, 'log').read_text()}")
            yield port
        finally:
            process.send_signal(signal.SIGINT)


def is_ready(port: int) -> bool:
    """Wait until a PostgreSQL accepts connections; while it starts, it answers that it does not."""
    command = [postgres_program("pg_isready"), "--quiet", "--host=127.0.0.1", f"--port={port}"]
    until = time.monotonic() + _START_TIMEOUT_S
    while subprocess.run(command, check=False).returncode:
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def postgres_program(name: str) -> str:
    """Return the path of a program of PostgreSQL: Debian's are in a folder for each version."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(found[-1]) if found else shutil.which(name) or name


def answers(port: int, question: bytes, answer: bytes) -> bool:
    until = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < until:
        try:
            with socket.create_connection(("127.0.0.1", port), _START_TIMEOUT_S) as sock:
                sock.sendall(question)
                if sock.recv(16).startswith(answer):
                    return True
        except OSError:
            pass
        time.sleep(0.02)
    return False
