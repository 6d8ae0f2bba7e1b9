"""A run's broker: a Redis or a Valkey of its own, a SQLite file, or memory."""

from __future__ import annotations

import shutil
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
    program = _PROGRAMS.get(name, "")
    return "" if not program or shutil.which(program) else program


@contextmanager
def event_log(name: str) -> Iterator[str]:
    """Run a broker with an empty event log; give its URL."""
    if name == "memory":
        yield "memory://"
        return
    with TemporaryDirectory() as folder:
        if name == "sqlite":
            yield f"sqlite:///{folder}/tidings.db"
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
            if not answers(port):
                sys.exit(f"{program} does not answer:\n{Path(folder, 'log').read_text()}")
            yield port
        finally:
            process.kill()


def answers(port: int) -> bool:
    until = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < until:
        try:
            with socket.create_connection(("127.0.0.1", port), _START_TIMEOUT_S) as sock:
                sock.sendall(b"PING\r\n")
                if sock.recv(16).startswith(b"+PONG"):
                    return True
        except OSError:
            pass
        time.sleep(0.02)
    return False
