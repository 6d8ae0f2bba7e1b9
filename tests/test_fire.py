"""No loss and no double while workers are killed, the server is rolled and publishers retry.

It takes some seconds; `TIDINGS_FIRE=600` makes it ten minutes.
"""

from __future__ import annotations

import os
import random
import re
import signal
import threading
import time
from collections import Counter
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from itertools import cycle
from typing import TYPE_CHECKING

import httpx
from conftest import PATIENCE, until

from webapp import wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Server

SECONDS = float(os.environ.get("TIDINGS_FIRE", "8"))
READERS, PUBLISHERS, WORKERS = 200, 4, 4
TOPIC = "fire"


class Reader(threading.Thread):
    """Reads from the beginning to the event `end`, with its cursor, however often it is cut."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.seen: list[str] = []
        self.told: Counter[str] = Counter()
        self._port = port
        self._cursor = "earliest"

    def run(self) -> None:
        while self.seen[-1:] != ["end"]:
            self.told["connected"] += 1
            with suppress(OSError, HTTPException):
                self._read()
            time.sleep(random.uniform(0, 0.2))

    def _read(self) -> None:
        for message in wire.parse(self._chunks()):
            self._cursor = message.id or self._cursor
            if message.type.startswith("hub."):
                self.told[message.type] += 1
            else:
                self.seen.append(message.data)

    def _chunks(self) -> Iterator[bytes]:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
        headers = {"Accept": "text/event-stream", "Last-Event-ID": self._cursor}
        connection.request("GET", f"/events?topic={TOPIC}", headers=headers)
        response = connection.getresponse()
        while self.seen[-1:] != ["end"] and (chunk := response.read1(1 << 16)):
            yield chunk
        connection.close()


class Publisher(threading.Thread):
    """Publishes numbers under ids of its own, each again until it is answered."""

    def __init__(self, url: str, name: str, until: float) -> None:
        super().__init__(name=name, daemon=True)
        self.published = 0
        self.retried = 0
        self._until = until
        self._client = httpx.Client(base_url=url, timeout=PATIENCE, trust_env=False)

    def run(self) -> None:
        with self._client:
            while time.monotonic() < self._until:
                self.publish(f"{self.name}-{self.published}")
                self.published += 1

    def publish(self, text: str) -> None:
        while not self._accepted(text):
            self.retried += 1
            time.sleep(random.uniform(0, 0.1))

    def _accepted(self, text: str) -> bool:
        with suppress(httpx.TransportError):
            answer = self._client.post("/events", data={"topic": TOPIC, "data": text, "id": text})
            assert answer.status_code in {200, 503}, answer.text
            return answer.status_code == 200
        return False


def kill_a_worker(server: Server) -> None:
    booted = re.findall(r"Booting worker with pid: (\d+)", server.log)
    with suppress(ProcessLookupError):  # one that was rolled is gone already
        os.kill(int(random.choice(booted[-WORKERS:])), signal.SIGKILL)


def roll(server: Server) -> None:
    server.process.send_signal(signal.SIGHUP)


def survives(server: Server, blows: list[Callable[[Server], None]]) -> None:
    """Strike until the time is over; then everybody must have the same, and all of it."""
    deadline = time.monotonic() + SECONDS
    readers = [Reader(server.port) for _ in range(READERS)]
    publishers = [Publisher(server.url, f"p{n}", deadline) for n in range(PUBLISHERS)]
    for thread in [*readers, *publishers]:
        thread.start()
    for blow in cycle(blows):
        if time.monotonic() > deadline:
            break
        before = sum(p.published for p in publishers)
        blow(server)
        until(lambda n=before: sum(p.published for p in publishers) > n + 20, "it goes on")
    for publisher in publishers:
        publisher.join(PATIENCE)
    Publisher(server.url, "last", 0).publish("end")
    for reader in readers:
        reader.join(2 * PATIENCE)
    check(readers, publishers)


def check(readers: list[Reader], publishers: list[Publisher]) -> None:
    told = sum((reader.told for reader in readers), Counter[str]())
    print(told, {p.name: (p.published, p.retried) for p in publishers})  # noqa: T201 - with -s
    log = readers[0].seen
    assert {text: n for text, n in Counter(log).items() if n > 1} == {}
    for publisher in publishers:
        mine = [text for text in log if text.startswith(f"{publisher.name}-")]
        assert mine == [f"{publisher.name}-{n}" for n in range(publisher.published)]
    for reader in readers:
        assert reader.seen == log
    assert told["hub.reset"] == 0
    assert told["connected"] > READERS


def test_on_one_machine_everybody_ends_with_the_published_sequence(
    serve: Callable[..., Server],
) -> None:
    server = serve("-w", str(WORKERS), TIDINGS_DRAIN="2", TIDINGS_RETRY="0.1")
    survives(server, [kill_a_worker, kill_a_worker, roll])
