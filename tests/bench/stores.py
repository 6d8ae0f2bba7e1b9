"""Where a run's log is kept: a Redis or a Valkey of its own, a file, or memory."""

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

PROGRAMS = {"redis": "redis-server", "valkey": "valkey-server"}
NOTHING_KEPT = ("--save", "", "--appendonly", "no", "--logfile", "log")
PATIENCE = 15  # seconds for a server to answer


def lacking(name: str) -> str:
    """Return the program that a log needs and that is not installed, or nothing."""
    program = PROGRAMS.get(name, "")
    return "" if not program or shutil.which(program) else program


@contextmanager
def kept(name: str) -> Iterator[str]:
    """Keep a new log for a while; give the URL that means it."""
    if name == "memory":
        yield "memory://"
        return
    with TemporaryDirectory() as folder:
        if name == "sqlite":
            yield f"sqlite:///{folder}/tidings.db"
        else:
            with serving(PROGRAMS[name], folder) as port:
                yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def serving(program: str, folder: str) -> Iterator[int]:
    """Run a server of logs; give its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", folder, *NOTHING_KEPT]
    with subprocess.Popen(command) as process:
        try:
            if not answers(port):
                sys.exit(f"{program} does not answer:\n{Path(folder, 'log').read_text()}")
            yield port
        finally:
            process.kill()


def answers(port: int) -> bool:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
                sock.sendall(b"PING\r\n")
                if sock.recv(16).startswith(b"+PONG"):
                    return True
        except OSError:
            pass
        time.sleep(0.02)
    return False
