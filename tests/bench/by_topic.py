"""What an event log of 1,000,000 events on 10,000 topics costs, as `make bench-topics` runs it.

A hub serves it over HTTP from SQLite, with a small window, so that all reads are of the file; then
200,000 events go to Redis. CPU is that of the hub. Prints one table.
"""

from __future__ import annotations

import argparse
import json
import re
import socket
import sqlite3
import sys
import time
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import redis

from brokers import event_log, missing_program
from runs import SMALL_WINDOW
from servers import SERVERS, running, used

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ROOMS, _TOPICS_OF_A_ROOM = 10, 1000
_DATA = "x" * 100
_LINES = 500  # of a pipe that are sent together
_MOST_SINGLES = 2000
_REPEAT = 5  # of a read; the least counts
_INDEXED_ROWS = 300  # fewer new events than that need no step of the index
_TIMEOUT_S = 120
_ID = re.compile(rb"^id: ?(.+)$", re.MULTILINE)
_SLOW_LOG_CALLS = 128  # what Redis remembers
_INDEX_TABLES = ("posts", "segments", "topics", "topic_ends")


def topic(number: int) -> str:
    return f"room/{number % _ROOMS}/{number // _ROOMS % _TOPICS_OF_A_ROOM}"


def with_page(events: int, page: int) -> Iterator[str]:
    """Yield the topics of some events, with those of a page of a hundred topics between them."""
    between = events // page
    for number in range(events):
        yield topic(number)
        if number % between == 0 and number < page * between:
            yield f"page/{number // between % 100}"


def pipe(port: int, topics: Iterator[str]) -> float:
    """Publish an event to each topic through one pipe; return the events a second."""
    began, count = time.monotonic(), 0

    def chunks() -> Iterator[bytes]:
        nonlocal count
        lines = list[str]()
        for name in topics:
            lines.append(f'{{"topic":"{name}","data":"{_DATA}"}}\n')
            count += 1
            if len(lines) == _LINES:
                yield "".join(lines).encode()
                lines.clear()
        yield "".join(lines).encode()

    with closing(HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)) as connection:
        kind = {"Content-Type": "application/x-ndjson", "Accept": "application/json"}
        connection.request("POST", "/events", filter(None, chunks()), kind, encode_chunked=True)
        answer = json.loads(connection.getresponse().read())
    if answer.get("published") != count:
        sys.exit(f"The hub did not take the pipe: {answer}")
    return count / (time.monotonic() - began)


def singles(port: int, path: str, count: int) -> float:
    """Publish one event after another on one connection; return the events a second."""
    began = time.monotonic()
    with closing(HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)) as connection:
        for _ in range(count):
            connection.request("POST", path, _DATA)
            connection.getresponse().read()
    return count / (time.monotonic() - began)


def publish(port: int, name: str) -> str:
    """Publish one event; return its id."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)) as connection:
        connection.request("POST", f"/events?topic={name}", _DATA)
        return connection.getresponse().read().decode().strip()


def read(port: int, query: str, until: Callable[[bytes, int], bool]) -> float:
    """Read a stream until its bytes and its number of events are enough; return the seconds."""
    began, count, rest = time.monotonic(), 0, b""
    with socket.create_connection(("127.0.0.1", port), _TIMEOUT_S) as sock:
        ask = (
            f"GET /events?{query} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
        )
        sock.sendall(ask.encode())
        while chunk := sock.recv(1 << 20):
            rest += chunk
            head, end, rest = rest.rpartition(b"\n")
            count += head.count(b"data: xxx")
            if until(head + end, count):
                return time.monotonic() - began
    sys.exit(f"The stream ended: {query}")


def _has_id(data: bytes, _: int) -> bool:
    return bool(_ID.search(data))  # only the last frame of a snapshot has one


def least(port: int, root: int, query: str, until: Callable[[bytes, int], bool]) -> str:
    """Return the least milliseconds of CPU and of time until a stream has sent enough."""
    found = list[tuple[float, float]]()
    for _ in range(_REPEAT):
        before = used(root)[0].total()
        seconds = read(port, query, until)
        found.append(((used(root)[0].total() - before) / 1e6, seconds * 1e3))
    cpu, seconds = map(min, zip(*found, strict=True))
    return f"{cpu:.1f} ms of CPU, {seconds:.1f} ms"


def await_index(file: str) -> None:
    """Wait until the index by topic has nearly all events."""
    behind = "SELECT count(*) FROM events WHERE place > (SELECT max(upto) FROM segments)"
    until = time.monotonic() + _TIMEOUT_S
    while time.monotonic() < until:
        with closing(sqlite3.connect(file)) as db:
            if db.execute(behind).fetchone()[0] < _INDEXED_ROWS:
                return
        time.sleep(0.2)
    sys.exit("The index does not catch up.")


def sizes(file: str) -> tuple[float, float]:
    """Return the size of a file, and without the index by topic, as 0.1.0 has it; in MB."""
    with TemporaryDirectory() as folder, closing(sqlite3.connect(file)) as db:
        copy = Path(folder, "copy.db")
        db.execute("VACUUM INTO ?", (str(copy),))
        whole = copy.stat().st_size
        with closing(sqlite3.connect(copy, isolation_level=None)) as without:
            for table in _INDEX_TABLES:
                without.execute(f"DROP TABLE IF EXISTS {table}")
            without.execute("VACUUM")
        return whole / 1e6, copy.stat().st_size / 1e6


@contextmanager
def row(title: str) -> Iterator[list[str]]:
    """Print a row of the table."""
    cells = list[str]()
    yield cells
    sys.stdout.write(f"| {title} | {' '.join(cells)} |\n")
    sys.stdout.flush()


def page_of(events: int) -> int:
    return min(500, events // 100)


def publish_quietly(port: int) -> str:
    """Publish what a subscriber of a quiet topic misses; return its cursor."""
    cursor = publish(port, "quiet")
    publish(port, "quiet")
    publish(port, "quiet")
    return cursor


def measure_reads(root: int, port: int, cursor: str, others: int, page: int) -> None:
    with row(f"2 missed events among {others:,}") as cells:
        query = f"topic=quiet&last_event_id={cursor}"
        cells.append(least(port, root, query, lambda _, count: count == 2))
    with row(f"{page} events of 100 topics") as cells:
        names = "&".join(f"topic=page/{number}" for number in range(100))
        query = f"{names}&last_event_id=earliest"
        cells.append(least(port, root, query, lambda _, count: count >= page))


def measure_sqlite(events: int, count: int, view: float) -> None:
    with (
        event_log("sqlite") as url,
        running(SERVERS["tidings"], 1, TIDINGS_BROKER_URL=url, **SMALL_WINDOW) as (root, port),
    ):
        page = page_of(events)
        pipe(port, with_page(events // 2, page))
        cursor = publish_quietly(port)
        with row("pipe into SQLite, half of the events kept") as cells:
            speed = pipe(port, map(topic, range(events // 2, events)))
            cells.append(f"{speed:,.0f} events/s, {speed / view:.1f} x an empty view")
        with row("one publish after another") as cells:
            speed = singles(port, "/events?topic=room/1/1", count)
            cells.append(f"{speed:,.0f} events/s, {speed / view:.2f} x an empty view")
        file = url.removeprefix("sqlite:///")
        await_index(file)
        with row("snapshot of 1,000 topics, to the last frame") as cells:
            cells.append(least(port, root, "topic=room/3/{name}&latest=1", _has_id))
        measure_reads(root, port, cursor, events // 2, page)
        with row("replay of everything") as cells:
            seconds = read(port, "topic=*&last_event_id=earliest", lambda _, count: count >= events)
            cells.append(f"{events / seconds:,.0f} events/s")
        with row("file, without free pages") as cells:
            whole, without = sizes(file)
            cells.append(f"{whole:,.0f} MB, {whole / without:.2f} x that without the index")


def measure_redis(events: int) -> None:
    with (
        event_log("redis") as url,
        running(SERVERS["tidings"], 1, TIDINGS_BROKER_URL=url, **SMALL_WINDOW) as (root, port),
        closing(redis.Redis.from_url(url)) as client,
    ):
        with row(f"pipe into Redis, {events:,} events; memory") as cells:
            speed = pipe(port, map(topic, range(events)))
            total = sum(client.memory_usage(key, samples=0) or 0 for key in client.scan_iter())
            log = sum(
                client.memory_usage(key, samples=0) or 0 for key in client.scan_iter(_type="stream")
            )
            cells.append(f"{speed:,.0f} events/s; {log / events:.0f} bytes an event,")
            cells.append(f"and {(total - log) / events:.0f} for the index")
        pipe(port, with_page(events, page_of(events)))
        cursor = publish_quietly(port)
        client.config_set("slowlog-log-slower-than", 0)
        client.slowlog_reset()
        measure_reads(root, port, cursor, 2 * events, page_of(events))
        with row("the longest call of Redis meanwhile") as cells:
            longest = max(call["duration"] for call in client.slowlog_get(_SLOW_LOG_CALLS))
            cells.append(f"{longest / 1000:.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000, help="kept by SQLite")
    events = parser.parse_args().events
    sys.stdout.write(
        f"| {events:,} events on {_ROOMS * _TOPICS_OF_A_ROOM:,} topics | |\n|---|---|\n"
    )
    count = min(_MOST_SINGLES, events // 100)
    with running(SERVERS["naive"]) as (_, port):
        view = singles(port, "/nothing", count)
    measure_sqlite(events, count, view)
    if not missing_program("redis"):
        measure_redis(events // 5)


if __name__ == "__main__":
    main()
