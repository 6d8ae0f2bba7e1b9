"""Servers that a Flask app with a hub in it may have."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from support.ports import free_port
from support.project import environment
from support.server import Server
from support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Iterator

BIN = Path(sys.executable).parent
START_PATIENCE = 60  # some import the app several times


class WsgiServer(Server):
    """A running server of any kind, which serves a path.

    :param ready: the path.
    """

    def __init__(self, process: subprocess.Popen[bytes], log: Path, port: int, ready: str) -> None:
        self.process = process
        self._log = log
        self.folder = log.parent
        self.host, self.port = "127.0.0.1", port
        self.url = f"http://127.0.0.1:{port}"
        # uWSGI's router closes each connection, and does not say so.
        limits = httpx.Limits(max_keepalive_connections=0)
        self.http = httpx.Client(
            base_url=self.url, timeout=PATIENCE, trust_env=False, verify=False, limits=limits
        )
        until(lambda: self.serves(ready), "it serves", START_PATIENCE)

    def serves(self, path: str) -> bool:
        """Whether it runs, and answers 200 at a path."""
        assert self.process.poll() is None, self.log
        try:
            answer = httpx.get(f"{self.url}{path}", trust_env=False, verify=False)
        except httpx.TransportError:
            return False
        return answer.status_code == 200


@contextmanager
def served(folder: Path, command: str, ready: str, **env: str) -> Iterator[WsgiServer]:
    """Run a server in a folder. In its command, PORT stands for the port."""
    port = free_port()
    with started(folder, command.replace("PORT", str(port)), **env) as process:
        server = WsgiServer(process, folder / "log", port, ready)
        with server.http:
            yield server


@contextmanager
def started(folder: Path, command: str, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program of the environment in a folder."""
    program, *arguments = shlex.split(command)
    with (folder / "log").open("wb") as out:
        process = subprocess.Popen(
            # A shell's background jobs, such as the tests may be, ignore SIGINT.
            ["env", "--default-signal=INT", BIN / program, *arguments],
            cwd=folder,
            env=environment(env),
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE)
