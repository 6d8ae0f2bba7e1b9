"""A crowd of subscribers on one hub of three workers: 50,000, as `make bench-50000` runs it.

All connect, get some events, wait with heartbeats, and are sent away by a roll of all workers while
events go on. Clients and hub share the machine. It returns 1 if anything was lost or cut, or if not
all subscribers connected.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack
from http.client import HTTPConnection, HTTPException
from itertools import count
from typing import TYPE_CHECKING, Any

from brokers import event_log
from servers import HERE, SERVERS, files, running, used
from webapp.config.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

_WORKERS = 3
_CLIENT_FILES = 12_500  # subscribers of one process
_SUBSCRIBERS_OF_A_WORKER = 19_000  # more than 80 % of 20,000 files, which is the hub's default
_OTHER_FILES = 500  # of a worker
_EVENTS = 10
_ROLL_INTERVAL_S = 3  # between two events while all connect again
_TIMEOUT_S = 300
_POLL_S = 0.5
_ANSWERS = range(200, 300)


class Crowd:
    """Processes of subscribers."""

    def __init__(self, stack: ExitStack, port: int, subscribers: int) -> None:
        self.size = subscribers
        self.complete = True
        """Whether all has come that was awaited."""
        self.delays_ms = Counter[int]()
        processes = -(-subscribers // _CLIENT_FILES)
        counts = [
            subscribers // processes + (n < subscribers % processes) for n in range(processes)
        ]
        command = [sys.executable, str(HERE / "crowd_client.py"), str(port)]
        self.processes = [
            stack.enter_context(
                subprocess.Popen([*command, str(size), str(2 + 4 * number)], stdin=-1, stdout=-1)
            )
            for number, size in enumerate(counts)
        ]
        for process in self.processes:
            stack.callback(process.kill)

    def ask(self) -> Counter[str]:
        """Return what has happened so far, in all processes together."""
        found = Counter[str]()
        self.workers, self.newest = Counter[str](), Counter[int]()
        self.ended = list[float]()
        for answer in map(self._ask, self.processes):
            self.workers += Counter(answer.pop("workers"))
            self.newest += Counter({int(key): n for key, n in answer.pop("newest").items()})
            self.delays_ms += Counter({int(key): n for key, n in answer.pop("delays_ms").items()})
            self.ended += answer.pop("ended")
            found += Counter(answer)
        return found

    @property
    def drained_s(self) -> float:
        """How long it took to end the streams that were ended whole."""
        return round(max(self.ended, default=0) - min(self.ended, default=0), 1)

    def _ask(self, process: subprocess.Popen[bytes]) -> Any:
        assert process.stdin
        assert process.stdout
        process.stdin.write(b"\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    def until(self, condition: Callable[[Counter[str]], bool]) -> None:
        """Await something."""
        deadline = time.monotonic() + _TIMEOUT_S
        while self.complete and not condition(self.ask()):
            self.complete = time.monotonic() < deadline
            time.sleep(_POLL_S)

    def all_have(self, number: int) -> None:
        """Await an event."""
        self.until(lambda _: self.newest[number] == self.size)


class Publisher:
    """Publishes numbered events, each until it is answered."""

    def __init__(self, port: int) -> None:
        self._port, self._numbers = port, count(1)
        self.newest, self.published_at = 0, 0.0

    def publish(self) -> None:
        number = next(self._numbers)
        data = f"n:{number} ts:{time.monotonic_ns()}"
        while not self._post(f"/events?topic=bench&id=crowd-{number}", data):
            time.sleep(_POLL_S)
        self.newest, self.published_at = number, time.monotonic()

    def _post(self, path: str, data: str) -> bool:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            connection.request("POST", path, data, {"Content-Type": "text/plain"})
            return connection.getresponse().status in _ANSWERS
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()


def percentile(counts: Counter[int], share: float) -> int:
    left = share * counts.total()
    for value in sorted(counts):
        left -= counts[value]
        if left <= 0:
            return value
    return 0


def say(title: str, value: object, limit: object = "") -> None:
    """Write a row: what was found, and what it should be at least or at most."""
    sys.stdout.write(f"| {title} | {value} | {limit} |\n")
    sys.stdout.flush()


def measure(subscribers: int, hold: float, drain: float) -> bool:
    """Do the run, and write a table. Return whether nothing was lost."""
    limit = min(_SUBSCRIBERS_OF_A_WORKER, files() - _OTHER_FILES)
    say("what", "found", "limit")
    say("---", "---:", "---")
    with ExitStack() as stack:
        settings = {"TIDINGS_BROKER_URL": stack.enter_context(event_log("sqlite"))}
        settings |= {"TIDINGS_MAX_SUBSCRIBERS": str(limit), "TIDINGS_DRAIN": str(drain)}
        root, port = stack.enter_context(running(SERVERS["tidings"], _WORKERS, **settings))
        crowd, publisher = Crowd(stack, port, subscribers), Publisher(port)
        connect(crowd, root)
        send_events(crowd, publisher)
        idle(root, hold)
        roll(crowd, publisher, root)
        say("seconds from the first of these ends to the last", crowd.drained_s, drain)
        found = crowd.ask()
        wrong = {name: found[name] for name in ("lost", "double", "reset", "cut", "refused")}
        say("lost, double, reset, cut, refused", list(wrong.values()))
    wrong.pop("refused")
    return crowd.complete and not any(wrong.values())


def connect(crowd: Crowd, root: int) -> None:
    before, empty = used(root)
    began = time.monotonic()
    crowd.until(lambda found: found["open"] == crowd.size)
    seconds = time.monotonic() - began
    after, full = used(root)
    opened, spread = crowd.ask()["open"], sorted(crowd.workers.values())
    cpu = sum(after[pid] - before[pid] for pid in after) / 1e9
    say("connected", opened, crowd.size)
    say("connects a second; per CPU-second", f"{opened / seconds:,.0f}; {opened / cpu:,.0f}")
    say("bytes of each", (full - empty) // opened, 6000)
    say("streams of each worker", spread, f"1.2 to 1; {spread[-1] / spread[0]:.2f}")


def send_events(crowd: Crowd, publisher: Publisher) -> None:
    crowd.ask()
    crowd.delays_ms.clear()
    for _ in range(_EVENTS):
        publisher.publish()
        crowd.all_have(publisher.newest)
    delays = crowd.delays_ms
    say("deliveries of ten events", delays.total(), crowd.size * _EVENTS)
    say("latency, median, ms", percentile(delays, 0.5))
    say("latency at 99 %, ms", percentile(delays, 0.99), 2000)


def idle(root: int, hold: float) -> None:
    before, _ = used(root)
    time.sleep(hold)
    after, _ = used(root)
    share = sum(after[pid] - before[pid] for pid in after) / 1e7 / max(hold, 0.001)
    say(f"% of a core, idle for {hold:.0f} s with heartbeats every 15 s", f"{share:.1f}", 10)


def roll(crowd: Crowd, publisher: Publisher, root: int) -> None:
    """Replace all workers, and go on publishing until all subscribers are back."""
    os.kill(root, signal.SIGHUP)
    began = time.monotonic()

    def over(found: Counter[str]) -> bool:
        if time.monotonic() - publisher.published_at > _ROLL_INTERVAL_S:
            publisher.publish()
        return found["whole"] + found["cut"] >= crowd.size and found["open"] == crowd.size

    crowd.until(over)
    seconds = time.monotonic() - began
    crowd.all_have(publisher.newest)
    say("ended whole by a roll", crowd.ask()["whole"], crowd.size)
    say("seconds until all are back", f"{seconds:.1f}")
    say("events in the roll", publisher.newest - _EVENTS)


def main() -> int:
    """Return 1 if anything was lost or cut, or did not come."""
    parser = argparse.ArgumentParser(prog="tests/bench/crowd.py", description=__doc__)
    parser.add_argument("--subscribers", type=int, default=50_000)
    parser.add_argument("--hold", type=float, default=60, help="seconds of waiting")
    parser.add_argument("--drain", type=float, default=Settings().drain, help="TIDINGS_DRAIN")
    chosen = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # no server is left behind
    return int(not measure(chosen.subscribers, chosen.hold, chosen.drain))


if __name__ == "__main__":
    sys.exit(main())
