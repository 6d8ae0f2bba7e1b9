"""Whether PostgreSQL's tables stay as large as they are, as `make bench-retention` measures it.

Two processes publish 500 events a second with own ids, on ever new topics, to an event log that
keeps 30,000 events. After two thirds of the time, no table may grow any more, or have more dead
rows than half of the events. It ends with status 1 if one does.
"""

from __future__ import annotations

import argparse
import sys
import time
from itertools import count, cycle

from support.broker_process import broker_processes
from support.postgres_server import running_postgres
from webapp.core.events import Draft

_BATCH = 50  # events of an append
_KEPT = 30_000
_GROWTH = 1.1  # of the largest size in the middle third, at most
_FACTS = """
SELECT c.relname, pg_total_relation_size(c.oid)::int / 1024, n_dead_tup::int
FROM pg_class c JOIN pg_stat_user_tables s ON s.relid = c.oid
WHERE s.schemaname = 'tidings' AND c.relname IN ('head', 'hit', 'log', 'topic') ORDER BY 1
"""


def main() -> int:
    """Publish, and print a line now and then."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--rate", type=float, default=500, help="events a second")
    options = parser.parse_args()
    with running_postgres("shared_buffers=128MB") as server, broker_processes() as connect:
        logs = [connect(server.url(), HISTORY_EVENTS=_KEPT) for _ in range(2)]
        for log in logs:
            log.follow(log.bounds().head)
        began, lines = time.monotonic(), list[dict[str, tuple[int, int]]]()
        say("   time    events  ", *(f"{it:>22}" for it in ("head", "hit", "log", "topic")))
        for n, log in zip(count(), cycle(logs), strict=False):
            log.append([_draft(n * _BATCH + part) for part in range(_BATCH)])
            passed = time.monotonic() - began
            if passed >= len(lines) * options.seconds / 30:
                lines.append({name: facts for name, *facts in server.ask(_FACTS)})
                shown = (f"{size:>9} kB {dead:>6} dead" for size, dead in lines[-1].values())
                say(f"{passed:6.0f} s {n * _BATCH:9}  ", *shown)
            if passed >= options.seconds:
                break
            time.sleep(max(0, n * _BATCH / options.rate - passed))
    return _verdict(lines)


def say(*words: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{' '.join(words)}\n")
    sys.stdout.flush()


def _verdict(lines: list[dict[str, tuple[int, int]]]) -> int:
    third = len(lines) // 3
    middle, end = lines[third : 2 * third], lines[2 * third :]
    grown = [
        name
        for name in end[0]
        if max(it[name][0] for it in end) > _GROWTH * max(it[name][0] for it in middle)
        or max(it[name][1] for it in end) > _KEPT / 2  # dead rows rise and fall
    ]
    say("grown:", ", ".join(grown) or "nothing")
    return int(bool(grown))


def _draft(number: int) -> Draft:
    return Draft(topics=(f"topic {number}",), data="x" * 300, id=f"id {number}")


if __name__ == "__main__":
    sys.exit(main())
