"""No loss and no double while workers are killed, the server is rolled and publishers retry.

It takes some seconds; `TIDINGS_FIRE=600` makes it ten minutes, with more subscribers and workers.
pytest then needs `--timeout 0 -o faulthandler_timeout=0`.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import threading
import time
from collections import Counter
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from http.client import HTTPConnection, HTTPException
from itertools import count, cycle
from typing import TYPE_CHECKING, NamedTuple

import httpx
import pytest

from support.postgres_server import running_postgres
from support.programs import need
from support.redis_server import RedisServer, running_redis
from support.server import serving
from support.waiting import PATIENCE, until
from webapp.core import sse

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from pathlib import Path

    from support.postgres_server import PostgresServer
    from support.server import Server

SECONDS = float(os.environ.get("TIDINGS_FIRE", "3"))
READERS, PUBLISHERS, WORKERS = (200, 4, 4) if "TIDINGS_FIRE" in os.environ else (100, 4, 3)
TOPIC = "fire"
QUICK = {
    "TIDINGS_DRAIN": "2",
    "TIDINGS_RETRY": "0.1",
    "TIDINGS_HEARTBEAT": "1",
    "TIDINGS_HISTORY_EVENTS": "1000000",
}
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")


class Subscriber(threading.Thread):
    """Reads from the beginning to the event `end`, with its cursor, however often it is cut."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self.seen: list[str] = []
        self.received: Counter[str] = Counter()
        self._address = server.host, server.port
        self._cursor = "earliest"

    def run(self) -> None:
        while self.seen[-1:] != ["end"]:
            self.received["connected"] += 1
            with suppress(OSError, HTTPException):
                self._read()
            time.sleep(random.uniform(0, 0.2))

    def _read(self) -> None:
        with closing(self._chunks()) as chunks:
            self._take(chunks)

    def _take(self, chunks: Iterator[bytes]) -> None:
        for message in sse.decode(chunks):
            self._cursor = message.id or self._cursor
            if message.type.startswith("hub."):
                self.received[message.type] += 1
            else:
                self.seen.append(message.data)

    def _chunks(self) -> Generator[bytes, None, None]:
        headers = {"Accept": "text/event-stream", "Last-Event-ID": self._cursor}
        with closing(HTTPConnection(*self._address, timeout=PATIENCE)) as connection:
            connection.request("GET", f"/events?topic={TOPIC}", headers=headers)
            with connection.getresponse() as response:
                while self.seen[-1:] != ["end"] and (chunk := response.read1(1 << 16)):
                    yield chunk


class Publisher(threading.Thread):
    """Publishes numbers under ids of its own until it is over."""

    def __init__(self, url: str, name: str, over: threading.Event) -> None:
        super().__init__(name=name, daemon=True)
        self.published = 0
        self.retried = 0
        self._url = url
        self._over = over

    def run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=PATIENCE, trust_env=False) as client:
            while not self._over.is_set():
                self.retried += publish(client, f"{self.name}-{self.published}")
                self.published += 1


def publish(client: httpx.Client, text: str) -> int:
    """Publish under an id of one's own until it is answered; return how often again."""
    deadline = time.monotonic() + 2 * PATIENCE
    for tries in count():
        assert time.monotonic() < deadline, f"{text} could not be published"
        with suppress(httpx.TransportError):
            answer = client.post("/events", data={"topic": TOPIC, "data": text, "id": text})
            if answer.status_code == 200:
                return tries
            assert answer.status_code == 503, answer.text
        time.sleep(random.uniform(0, 0.1))
    raise AssertionError


def kill_a_worker(server: Server) -> None:
    booted = re.findall(r"Booting worker with pid: (\d+)", server.log)
    with suppress(ProcessLookupError):  # one that was rolled is gone already
        os.kill(int(random.choice(booted[-WORKERS:])), signal.SIGKILL)


def roll(server: Server) -> None:
    """Replace all workers; returns when the first subscribers were sent away."""
    sent_away = server.ended("drain")
    server.process.send_signal(signal.SIGHUP)
    until(lambda: server.ended("drain") > sent_away, "subscribers are sent away")


def done(publishers: list[Publisher]) -> int:
    return sum(publisher.published for publisher in publishers)


def await_more(publishers: list[Publisher]) -> None:
    enough = done(publishers) + 50
    until(lambda: done(publishers) >= enough, "they publish", 2 * PATIENCE)


def await_ends(threads: Sequence[threading.Thread]) -> None:
    """Await that all of them end, for no longer than one may take: `check` says what is missing."""
    deadline = time.monotonic() + 2 * PATIENCE
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))


def survives(servers: list[Server], blows: list[Callable[[], None]], crowd: int = READERS) -> int:
    """Strike until the time is over, each blow at least once; then everybody must have the same,
    and all of it.

    Return how often subscribers connected.
    """
    deadline, over = time.monotonic() + SECONDS, threading.Event()
    ours = cycle(servers)
    subscribers = [Subscriber(next(ours)) for _ in range(crowd)]
    publishers = [Publisher(next(ours).url, f"p{n}", over) for n in range(PUBLISHERS)]
    for thread in [*subscribers, *publishers]:
        thread.start()
    until(
        lambda: all(subscriber.received["hub.open"] for subscriber in subscribers),
        "all read",
        2 * PATIENCE,
    )
    for number, blow in enumerate(cycle(blows)):
        await_more(publishers)
        if number >= len(blows) and time.monotonic() > deadline:
            break
        blow()
    over.set()
    await_ends(publishers)
    publish(servers[0].http, "end")
    await_ends(subscribers)
    check(subscribers, publishers)
    return sum(subscriber.received["connected"] for subscriber in subscribers)


def check(subscribers: list[Subscriber], publishers: list[Publisher]) -> None:
    received = sum((subscriber.received for subscriber in subscribers), Counter[str]())
    print(received, {p.name: (p.published, p.retried) for p in publishers})  # noqa: T201 - with -s
    log = subscribers[0].seen
    assert {text: n for text, n in Counter(log).items() if n > 1} == {}
    for publisher in publishers:
        mine = [text for text in log if text.startswith(f"{publisher.name}-")]
        assert mine == [f"{publisher.name}-{n}" for n in range(publisher.published)]
    for subscriber in subscribers:
        assert subscriber.seen == log
    assert received["hub.reset"] == 0


def test_on_one_machine_everybody_ends_with_the_published_sequence(
    serve: Callable[..., Server],
) -> None:
    server = serve("-w", str(WORKERS), **QUICK)
    kill = partial(kill_a_worker, server)
    assert survives([server], [kill, kill, partial(roll, server)]) > READERS


def test_a_rolling_restart_with_500_open_streams_loses_nothing(
    serve: Callable[..., Server],
) -> None:
    server = serve("-w", "2", **QUICK)
    assert survives([server], [partial(roll, server)], crowd=500) > 500


@contextmanager
def durable_server(broker: str, folder: Path) -> Iterator[RedisServer | PostgresServer]:
    """Run a server of the event log that has on the disk what it has answered, for all hosts."""
    if broker == "postgres":
        with running_postgres("listen_addresses=*", "shared_buffers=16MB") as server:
            server.admit("10.213.0.0/16")
            yield server
    else:
        options = (*DURABLE, "--bind", "0.0.0.0", "--protected-mode", "no")
        with running_redis("redis-server", folder, *options) as redis:
            yield redis


def log_settings(log: RedisServer | PostgresServer, address: str = "127.0.0.1") -> dict[str, str]:
    """Return the settings of a hub whose event log is on a server, which has an address for it."""
    url = f"{log.base_url}0" if isinstance(log, RedisServer) else log.url()
    return {"TIDINGS_BROKER_URL": url.replace("127.0.0.1", address), **QUICK}


@pytest.mark.parametrize("broker", ["redis", "postgres"])
def test_a_server_that_restarts_loses_nothing(
    serve: Callable[..., Server], tmp_path: Path, broker: str
) -> None:
    with durable_server(broker, tmp_path) as log:
        server = serve("-w", str(WORKERS), **log_settings(log))
        kill = partial(kill_a_worker, server)
        assert survives([server], [kill, log.restart, partial(roll, server)]) > READERS
        server.stop()


@pytest.mark.parametrize("broker", ["redis", "postgres"])
def test_two_hosts_and_a_broken_network_lose_nothing(tmp_path: Path, broker: str) -> None:
    with ExitStack() as stack:
        hosts = [stack.enter_context(host(n)) for n in (1, 2)]
        log = stack.enter_context(durable_server(broker, tmp_path))
        servers = [
            stack.enter_context(
                serving(
                    ["-w", "2", "-b", f"{there.front}:0"],
                    {"TIDINGS_OPEN": "1", **log_settings(log, there.log)},
                    tmp_path / there.name / "log",
                    there.prefix,
                )
            )
            for there in hosts
        ]

        def count_logged(text: str) -> int:
            return servers[0].log.count(f"the event log is {text}")

        def cut_off() -> None:
            noticed = count_logged("unavailable")
            hosts[0].cut()
            until(lambda: count_logged("unavailable") > noticed, "it is noticed")
            hosts[0].heal()
            # Each outage is logged once, so the next one must not begin before this one's end.
            until(
                lambda: count_logged("available again") == count_logged("unavailable"),
                "it is over",
                2 * PATIENCE,
            )

        assert survives(servers, [cut_off]) == READERS  # they stay, and wait


class Host(NamedTuple):
    """A network namespace with a link to its clients and one to the log."""

    name: str
    front: str
    log: str

    @property
    def prefix(self) -> list[str]:
        return ["ip", "netns", "exec", self.name]

    def cut(self) -> None:
        ip("link", "set", f"{self.name}b", "down")

    def heal(self) -> None:
        ip("link", "set", f"{self.name}b", "up")


@contextmanager
def host(number: int) -> Iterator[Host]:
    name, network = f"tidings{number}", f"10.213.{number}"
    if need("ip") and os.geteuid():
        pytest.skip("only root can make hosts")
    for left in (["netns", "delete", name], *(["link", "delete", name + e] for e in "fb")):
        with suppress(subprocess.CalledProcessError):
            ip(*left)  # of a run that was killed
    ip("netns", "add", name)
    try:
        for end, ours, theirs in (("f", 1, 2), ("b", 5, 6)):
            link = f"{name}{end}"
            ip("link", "add", link, "type", "veth", "peer", "name", link, "netns", name)
            ip("addr", "add", f"{network}.{ours}/30", "dev", link)
            ip("link", "set", link, "up")
            ip("-n", name, "addr", "add", f"{network}.{theirs}/30", "dev", link)
            ip("-n", name, "link", "set", link, "up")
        yield Host(name, front=f"{network}.2", log=f"{network}.5")
    finally:
        ip("netns", "delete", name)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, stderr=subprocess.DEVNULL)
