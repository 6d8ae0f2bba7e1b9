"""A hub that runs under gunicorn, its log captured."""

from __future__ import annotations

import os
import re
import signal
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import httpx
import pytest

from support.project import environment, installed
from support.python_module import start_module
from support.stream import Stream
from support.waiting import PATIENCE, until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Sequence
    from pathlib import Path


_PATIENT = ("--timeout", "300")  # gunicorn kills a worker that got no CPU for half a minute


class Server:
    """A running hub."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log
        found = until(self._started, "the server is up")
        self.url, self.host = found[1], found[2]
        self.port = int(found[3])
        self.http = httpx.Client(base_url=self.url, timeout=PATIENCE, trust_env=False, verify=False)

    def _started(self) -> re.Match[str] | None:
        if self.process.poll() is not None:
            pytest.fail(f"the server did not start: {self.log}")
        ready = "Booting worker" in self.log
        return re.search(r"Listening at: (https?://([\d.]+):(\d+))", self.log) if ready else None

    @property
    def log(self) -> str:
        """What it wrote so far."""
        return self._log.read_text(errors="replace")

    @property
    def worker(self) -> int:
        """The newest worker's process id."""
        return int(re.findall(r"Booting worker with pid: (\d+)", self.log)[-1])

    @contextmanager
    def listen(
        self, path: str = "/events", headers: dict[str, str] | None = None, **query: Any
    ) -> Iterator[Stream]:
        """Open a stream; leaving hangs up."""
        connection = HTTPConnection(self.host, self.port, timeout=PATIENCE)
        target = f"{path}?{urlencode(query, doseq=True)}" if query else path
        with closing(connection):
            connection.request("GET", target, headers=headers or {})
            response = connection.getresponse()
            assert response.status == 200, response.read()
            with closing(Stream(response, connection)) as stream:
                yield stream

    def publish(self, data: str = "", **fields: Any) -> str:
        """Publish a form and return the event's id."""
        answer = self.http.post("/events", data={"data": data, **fields})
        assert answer.status_code == 200, answer.text
        return answer.text.removesuffix("\n")

    def ended(self, reason: str) -> int:
        """How many streams ended for a reason, as the log says."""
        return self.log.count(f"stream ended: reason={reason} ")

    def left(self, topic: str) -> int:
        """How many streams of a topic have ended, as the log says."""
        return len(re.findall(rf"stream ended: .* topics={re.escape(topic)}\n", self.log))

    def stop(self, sig: int = signal.SIGTERM) -> int:
        """Stop it and return its exit status."""
        self.process.send_signal(sig)
        return self.process.wait(PATIENCE)


@contextmanager
def serving(
    arguments: list[str], env: dict[str, str], log: Path, prefix: Sequence[str] = ()
) -> Iterator[Server]:
    """Serve a hub until the end."""
    with running(arguments, env, log, prefix) as process:
        server = Server(process, log)
        with server.http:
            yield server


@contextmanager
def running(
    arguments: list[str], env: dict[str, str], log: Path, prefix: Sequence[str] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """Run gunicorn with a log of its own; whatever is left of it is killed at the end."""
    log.parent.mkdir(exist_ok=True)
    with log.open("wb") as out:
        process = start_module(
            "gunicorn",
            "wsgi:app",
            *_PATIENT,
            *arguments,
            prefix=prefix,
            cwd=installed(log.parent),
            env=environment(env),
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(PATIENCE)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
