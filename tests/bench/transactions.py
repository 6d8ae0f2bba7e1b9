"""Transactions of an app that publish, beside the same ones that do not, in one PostgreSQL.

`python tests/bench/transactions.py` prints a table: how many commits a second 50 connections reach
with and without publishing, in turn, while a hub moves the events; the ratio; how long it takes
from a commit to a process that follows the event log; and how long the disk takes for 8 KB.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import argparse  # noqa: E402 - not before all is patched
import os  # noqa: E402
import re  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402
from statistics import median  # noqa: E402
from tempfile import TemporaryDirectory  # noqa: E402
from time import perf_counter, time  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

import gevent  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from brokers import postgres_program, serving_postgres  # noqa: E402
from webapp.brokers.postgres.broker import PostgresBroker  # noqa: E402

if TYPE_CHECKING:
    from webapp.core.events import EventId

_TABLES = """
CREATE TABLE stock (item int PRIMARY KEY, number int NOT NULL);
CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item int NOT NULL,
  at timestamptz NOT NULL DEFAULT now());
INSERT INTO stock SELECT n, 0 FROM generate_series(1, 100000) n;
"""
_ORDER = r"""
\set item random(1, 100000)
BEGIN;
INSERT INTO orders (item) VALUES (:item);
UPDATE stock SET number = number - 1 WHERE item = :item;
"""
_PUBLISH = """SELECT tidings.publish('/orders', '{"item": 123456, "state": "ordered"}');\n"""
_TIMED = "SELECT tidings.publish('/timed', %s)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="of each part of a round")
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--timed", type=int, default=200, help="commits whose way is timed")
    chosen = parser.parse_args()
    with TemporaryDirectory() as folder, serving_postgres(folder) as port:
        url = f"postgresql://bench@127.0.0.1:{port}/postgres"
        broker = PostgresBroker(url, 1_000_000, 1 << 30, 86_400)
        delays: list[float] = []
        follower = gevent.spawn(follow, broker, broker.bounds().head, delays)
        ask(url, _TABLES)
        scripts = {"plain": f"{_ORDER}COMMIT;", "publishing": f"{_ORDER}{_PUBLISH}COMMIT;"}
        for name, text in scripts.items():
            Path(folder, name).write_text(text)
        found: dict[str, list[float]] = {name: [] for name in scripts}
        for _ in range(chosen.rounds):
            for name in scripts:
                command = ["-n", "-M", "prepared", "-j", "2", f"-f{folder}/{name}"]
                found[name].append(commits(port, *command, chosen=chosen))
                gevent.sleep(1)  # the rest is moved
        for _ in range(chosen.timed):
            ask(url, _TIMED, str(time()))
            gevent.sleep(0.02)
        gevent.sleep(0.5)
        plain, publishing = (median(it) for it in found.values())
        say("fsync of 8 KB, median, ms", f"{fsync(folder) * 1000:.2f}")
        say(f"{chosen.connections} connections: commits/s", f"{plain:,.0f}")
        say("the same, and each publishes", f"{publishing:,.0f}")
        ratios = [b / a for a, b in zip(*found.values(), strict=True)]
        say("ratio", f"{median(ratios):.2f}")
        say("from a commit to a follower, median, ms", f"{median(delays) * 1000:.1f}")
        follower.kill()
        broker.close()


def follow(broker: PostgresBroker, after: EventId, delays: list[float]) -> None:
    for events in broker.follow(after):
        now = time()
        if isinstance(events, list):
            times = [it.draft.data for it in events if it.draft.topics == ("/timed",)]
            delays += [now - float(it) for it in times]


def commits(port: int, *command: str, chosen: Any) -> float:
    """Return how many transactions a second PostgreSQL's own client reaches."""
    where = ["-h", "127.0.0.1", "-p", str(port), "-U", "bench"]
    count = ["-c", str(chosen.connections), "-T", str(chosen.seconds)]
    program = [postgres_program("pgbench"), *where, *count, *command, "postgres"]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    return float(re.findall(r"tps = ([\d.]+)", done.stdout)[-1])


def ask(url: str, query: str, *values: str) -> None:
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(query, values or None)


def fsync(folder: str) -> float:
    """Return how long the disk takes for 8 KB."""
    spent = []
    with Path(folder, "disk").open("wb") as file:
        for _ in range(200):
            file.write(b"x" * 8192)
            file.flush()
            began = perf_counter()
            os.fdatasync(file.fileno())
            spent.append(perf_counter() - began)
    return median(spent)


def say(title: str, value: str) -> None:
    sys.stdout.write(f"| {title} | {value} |\n")


if __name__ == "__main__":
    main()
