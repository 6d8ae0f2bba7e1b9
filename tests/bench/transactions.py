"""Transactions of an app that publish, beside the same ones that do not, in one PostgreSQL.

`python tests/bench/transactions.py` prints a table: how many commits a second 50 connections reach
with and without publishing, in turn, while a hub moves the events; the ratio of both; how long it
takes from the call that publishes and commits to a process that follows the event log; and how long
the disk takes for 8 KB. All of it shares the machine's cores: the clients too, and the hub.

The transactions: `short` inserts a row and updates one of 100,000 by its key; `order` also reads
that row first. `one statement` publishes in the statement that inserts, so it has no round trip of
its own; `trigger` leaves it to a trigger on the table; `pipeline` sends the publishing and the
commit at once, as psycopg's pipeline mode does. With `--unmoved` no hub runs, so the events stay
where the transactions put them, and the app pays only for what it does itself.
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
_DATA = """'{"item": 123456, "state": "ordered"}'"""
_PUBLISH = f"SELECT tidings.publish('/orders', {_DATA});"
_READ = "SELECT number FROM stock WHERE item = :item;"
_UPDATE = "UPDATE stock SET number = number - 1 WHERE item = :item;"
_INSERT = "INSERT INTO orders (item) VALUES (:item);"
_INSERT_AND_PUBLISH = f"""WITH row AS (INSERT INTO orders (item) VALUES (:item) RETURNING id)
  SELECT tidings.publish('/orders', {_DATA}) FROM row;"""
_TRIGGER = f"""
CREATE TABLE shown (LIKE orders INCLUDING ALL);
CREATE FUNCTION show() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM tidings.publish('/orders', {_DATA}); RETURN NULL; END $$;
CREATE TRIGGER show AFTER INSERT ON shown FOR EACH ROW EXECUTE FUNCTION show();
"""
_START, _END = "\\startpipeline", "\\endpipeline"
_COMPARED = {  # the statements without publishing, and with it
    "short": ([_INSERT, _UPDATE], [_INSERT, _UPDATE, _PUBLISH]),
    "order": ([_READ, _UPDATE, _INSERT], [_READ, _UPDATE, _INSERT, _PUBLISH]),
    "one statement": ([_READ, _UPDATE, _INSERT], [_READ, _UPDATE, _INSERT_AND_PUBLISH]),
    "trigger": (
        [_READ, _UPDATE, _INSERT],
        [_READ, _UPDATE, "INSERT INTO shown (item) VALUES (:item);"],
    ),
    "pipeline": ([_READ, _UPDATE, _INSERT], [_READ, _UPDATE, _INSERT, _START, _PUBLISH]),
}
_TIMED = "SELECT tidings.publish('/timed', %s)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=8, help="of each part of a round")
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--timed", type=int, default=200, help="commits whose way is timed")
    parser.add_argument("--pause", type=float, default=0.05, help="seconds between these")
    parser.add_argument("--unmoved", action="store_true", help="run no hub")
    parser.add_argument("--only", nargs="*", choices=_COMPARED, default=list(_COMPARED))
    chosen = parser.parse_args()
    with TemporaryDirectory() as folder, serving_postgres(folder) as port:
        url = f"postgresql://bench@127.0.0.1:{port}/postgres"
        broker = PostgresBroker(url, 1_000_000, 1 << 30, 86_400)
        say("fsync of 8 KB, median, ms", f"{fsync(folder) * 1000:.2f}")
        follower = None if chosen.unmoved else started(broker, url, chosen)
        broker.bounds()  # there is a schema
        ask(url, _TABLES + _TRIGGER)
        for name in chosen.only:
            compare(name, folder, port, chosen)
        if follower:
            follower.kill()
        broker.close()


def started(broker: PostgresBroker, url: str, chosen: Any) -> gevent.Greenlet[..., None]:
    """Follow the event log from now on, and print how long an event needs."""
    delays: list[float] = []
    follower = gevent.spawn(follow, broker, broker.bounds().head, delays)
    gevent.sleep(1)
    publish_timed(url, chosen.timed, chosen.pause)
    gevent.sleep(0.5)
    say("from a commit to a follower, median, ms", f"{median(delays) * 1000:.1f}")
    return follower


def compare(name: str, folder: str, port: int, chosen: Any) -> None:
    """Run both kinds of a transaction in turn, and print what they reach."""
    found: list[list[float]] = [[], []]
    for _ in range(chosen.rounds):
        for kind, statements in enumerate(_COMPARED[name]):
            script = Path(folder, "script")
            lines = ["\\set item random(1, 100000)", "BEGIN;", *statements, "COMMIT;"]
            lines += [_END] if _START in statements else []
            script.write_text("\n".join(lines))
            command = ["-n", "-M", "prepared", "-j", "2", f"-f{script}"]
            found[kind].append(commits(port, *command, chosen=chosen))
            gevent.sleep(1)  # the rest is moved
    plain, publishing = (median(it) for it in found)
    say(f"{name}: commits/s of {chosen.connections} connections", f"{plain:,.0f}")
    say(f"{name}: the same, and each publishes", f"{publishing:,.0f}")
    ratios = [b / a for a, b in zip(*found, strict=True)]
    say(f"{name}: ratio", f"{median(ratios):.2f}")


def publish_timed(url: str, number: int, pause: float) -> None:
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        for _ in range(number):
            connection.execute(_TIMED, (str(time()),))
            gevent.sleep(pause)


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


def ask(url: str, query: str) -> None:
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(query)


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
    sys.stdout.flush()


if __name__ == "__main__":
    main()
