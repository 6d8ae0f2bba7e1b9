"""Waves of attackers: those who behave hardly notice, and nothing of a wave stays behind.

`TIDINGS_WAVE=5000` makes it five thousand connections that send half a request, as many that
subscribe and never read, and two hundred publishers of garbage.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from support.load import publish_numbers
from support.processes import memory, sockets
from support.project import ROOT
from support.waiting import PATIENCE, until
from webapp.config.file_limit import raise_file_limit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.server import Server
    from support.stream import Stream

COUNT = int(os.environ.get("TIDINGS_WAVE", "200"))
PUBLISHERS = max(4, COUNT // 25)
SAMPLES = 15
FILL = 40  # events of 10 KB, more than fits the buffers of one who does not read
FLOOR = 0.3  # seconds: below that, a machine that is busy says nothing
ROOM = 20 << 20  # bytes


@contextmanager
def wave(server: Server) -> Iterator[None]:
    """Attackers come, and go."""
    command = [sys.executable, str(Path(__file__).with_name("attackers.py"))]
    with subprocess.Popen(
        [*command, *map(str, (server.port, COUNT, COUNT, PUBLISHERS))],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as attackers:
        assert attackers.stdout is not None
        try:
            assert attackers.stdout.readline() == b"ready\n"
            yield
        finally:
            attackers.communicate(timeout=PATIENCE + COUNT / 100)


def latencies(server: Server, subscribers: list[Stream]) -> list[float]:
    """Return how long each event takes from before it is published until all have read it."""
    found = []
    for number in range(SAMPLES):
        began = time.monotonic()
        server.publish(str(number), topic="good")
        for subscriber in subscribers:
            assert subscriber.take(1) == [str(number)]
        found.append(time.monotonic() - began)
        time.sleep(0.01)
    return found


def test_waves_of_attackers_cost_others_little_and_leave_nothing(
    serve: Callable[..., Server],
) -> None:
    raise_file_limit()
    server = serve(TIDINGS_DEMO="0", TIDINGS_WRITE_TIMEOUT="2", TIDINGS_WINDOW_BYTES="1M")
    with (
        server.listen(topic="good") as one,
        server.listen(topic="good") as two,
        server.listen(topic="good") as three,
    ):
        good = [one, two, three]
        publish_numbers(server, "noise", range(300), 10_000)  # the window is full from the start
        latencies(server, good)
        before, left, hardly_noticed = sockets(server.worker), [], 0
        for number in range(3):
            calm = statistics.median(latencies(server, good))
            with wave(server):
                publish_numbers(server, "noise", range(FILL), 10_000)
                server.publish("all were given theirs", topic="good")
                for subscriber in good:
                    subscriber.take(1)
                slow = latencies(server, good)
                began = time.monotonic()
                assert (
                    httpx.get(
                        f"{server.url}/healthz", timeout=PATIENCE, trust_env=False
                    ).status_code
                    == 200
                )
                health = time.monotonic() - began
            until(lambda: sockets(server.worker) <= before, "all are gone", PATIENCE + COUNT / 100)
            left.append(memory(server.worker))
            median, worst = statistics.median(slow), max(slow)
            print(  # noqa: T201 - for who measures
                f"wave {number + 1}: median {calm * 1000:.1f} ms calm, {median * 1000:.1f} ms"
                f" (worst {worst * 1000:.0f}) in it; healthz {health * 1000:.0f} ms;"
                f" {left[-1] / (1 << 20):.1f} MiB left"
            )
            hardly_noticed += median < max(2 * calm, calm + FLOOR)
        assert hardly_noticed  # by all waves, where nothing else keeps the machine busy
        assert max(left[1:]) - left[0] < ROOM
    assert "Traceback" not in server.log
