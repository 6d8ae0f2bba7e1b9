"""Real servers for the tests: gunicorn as a subprocess, awaited, its log captured."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, closing, contextmanager, suppress
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode

import httpx
import pytest
from hypothesis import HealthCheck, settings

from webapp.core import sse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

pytest_plugins = ["browser"]

T = TypeVar("T")

ROOT = Path(__file__).parent.parent
PATIENCE = 15  # seconds for what should take milliseconds, on a machine that is busy
KEY = "a-key-of-the-tests-that-is-long-enough"
# Hypothesis takes a process that was put aside for one that is slow.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def need(program: str) -> str:
    """Return the path of a program; without it, skip on a laptop and fail in CI."""
    if path := shutil.which(program):
        return path
    message = f"{program} is not installed"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def until(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Await a condition and return its value."""
    deadline = time.monotonic() + patience
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {patience} s")
        time.sleep(0.01)
    return value


def one_of_three(action: Callable[[], T], right: Callable[[T], bool]) -> T:
    """Return the first outcome that is right, or the third: a machine that stands still for a
    moment makes things late, and never makes them early.
    """
    for _ in range(2):
        if right(outcome := action()):
            return outcome
    return action()


class Stream:
    """A reader that sees every byte: hub.open, hub.* and heartbeats too."""

    def __init__(self, response: HTTPResponse, connection: HTTPConnection) -> None:
        self.response = response
        self.headers = response.headers
        self.raw = b""
        self.ids: list[str] = []
        self._connection = connection
        self._messages = sse.decode(self._chunks())

    def _chunks(self) -> Iterator[bytes]:
        while chunk := self.response.read1(1 << 16):
            self.raw += chunk
            yield chunk

    def next(self) -> sse.ServerSentEvent:
        """Return the next message, the hub's own included."""
        message = next(self._messages)
        self.ids.append(message.id)
        return message

    def take(self, count: int) -> list[str]:
        """Return the data of the next published messages."""
        return [message.data for message in self.messages(count)]

    def messages(self, count: int) -> list[sse.ServerSentEvent]:
        """Return the next published messages."""
        found: list[sse.ServerSentEvent] = []
        while len(found) < count:
            message = self.next()
            if not message.type.startswith("hub."):
                found.append(message)
        return found

    def rest(self) -> list[sse.ServerSentEvent]:
        """Return all messages up to the end of the body, which must be a complete one."""
        return list(self._messages)

    def close(self) -> None:
        """Hang up."""
        self.response.close()
        self._connection.close()


class Server:
    """A running hub."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log
        found = until(self._started, "the server is up")
        self.url, self.host = found[1], found[2]
        self.port = int(found[3])
        self.http = httpx.Client(base_url=self.url, timeout=PATIENCE, trust_env=False)

    def _started(self) -> re.Match[str] | None:
        if self.process.poll() is not None:
            pytest.fail(f"the server did not start: {self.log}")
        ready = "Booting worker" in self.log
        return re.search(r"Listening at: (http://([\d.]+):(\d+))", self.log) if ready else None

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
        return answer.text

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


@pytest.fixture(name="serve", scope="session")
def _serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Start hubs of one's own: `serve(TIDINGS_HEARTBEAT="1")`; all end with the tests."""
    servers = []
    with ExitStack() as stack:

        def start(*arguments: str, **env: str) -> Server:
            log = tmp_path_factory.mktemp("server") / "log"
            server = stack.enter_context(serving(["-b", "127.0.0.1:0", *arguments], env, log))
            servers.append(server)
            return server

        yield start
        for server in servers:
            server.process.terminate()  # all stop at once, and are awaited one after another


@contextmanager
def serving(
    arguments: list[str], env: dict[str, str], log: Path, prefix: Sequence[str] = ()
) -> Iterator[Server]:
    """Serve a hub until the end."""
    with running(arguments, env, log, prefix) as process:
        server = Server(process, log)
        with server.http:
            yield server


def environment(env: dict[str, str]) -> dict[str, str]:
    """Return this process's environment without any setting, and `env`."""
    ours = ("TIDINGS_", "PORT", "WEB_CONCURRENCY", "REDIS_URL", "GUNICORN_CMD_ARGS")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    return {**kept, "PYTHONUNBUFFERED": "1", **env}


def installed(folder: Path) -> Path:
    """Return a folder that has the project, and an instance of its own."""
    for name in ("webapp", "templates", "wsgi.py", "gunicorn.conf.py", "Procfile"):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)
    return folder


@contextmanager
def running(
    arguments: list[str], env: dict[str, str], log: Path, prefix: Sequence[str] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """Run gunicorn with a log of its own; whatever is left of it is killed at the end."""
    command = [*prefix, sys.executable, "-m", "gunicorn", "wsgi:app", *arguments]
    log.parent.mkdir(exist_ok=True)
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
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


@pytest.fixture(name="server", scope="session")
def _server(serve: Callable[..., Server]) -> Server:
    """An open hub without the demo, shared by tests that each use topics of their own."""
    return serve(TIDINGS_DEMO="0")


@pytest.fixture(name="topic")
def _topic(request: pytest.FixtureRequest) -> str:
    """A topic of this test's own."""
    return f"{request.node.name}-{time.monotonic_ns()}"
