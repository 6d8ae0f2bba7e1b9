"""Tidings beside the usual Flask stack and the limit, in one run on one machine.

Absolute numbers are this machine's; what can be compared with others is the ratio.
`python tests/bench --help` says what can be chosen.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from picture import draw
from servers import HERE, SERVERS, SETTLE, Server, files, missing, running, used

TICK = 0.01  # seconds: less CPU than the kernel counts is taken for this


@dataclass(frozen=True)
class Run:
    """Readers, then events at a rate a second; 0: the next when the last was answered."""

    readers: int
    events: int = 0
    rate: int = 0

    def quick(self) -> Run:
        return replace(self, readers=-(-self.readers // 10), events=self.events // 10)


@dataclass(frozen=True)
class Measure:
    """A row of the table: the run's and value's name, a title, and whether less is better."""

    key: str
    title: str
    less: bool = False
    drawn: bool = True

    def ratio(self, value: float, base: float) -> float:
        """Return how many times better a value is."""
        better, worse = (base, value) if self.less else (value, base)
        return better / worse if worse else 1.0


RUNS = {"A": Run(1000, 50, 10), "C": Run(1000, 300), "D": Run(5000), "E": Run(1, 3000)}
MEASURES = [
    Measure("A cpu", "A: deliveries per CPU-second"),
    Measure("A p50", "A: latency, median, ms", less=True, drawn=False),
    Measure("A p99", "A: latency, 99 %, ms", less=True, drawn=False),
    Measure("C speed", "C: deliveries per second"),
    Measure("D memory", "D: bytes per waiting reader", less=True),
    Measure("D connects", "D: connects per CPU-second"),
    Measure("E accepted", "E: events accepted per second"),
]
Values = dict[str, float]


def measure(server: Server, run: Run) -> Values:
    """Start a server, do one run, and return all that it says."""
    load = [server.listen, server.publish, *map(str, (run.readers, run.events, run.rate))]
    with running(server) as (root, port):
        before, empty = used(root)
        load = [sys.executable, str(HERE / "client.py"), str(port), *load]
        with subprocess.Popen(load, stdin=-1, stdout=-1, text=True, bufsize=1) as client:
            assert client.stdin
            assert client.stdout
            ready = json.loads(client.stdout.readline())["ready"]
            time.sleep(SETTLE)
            waiting, full = used(root)
            client.stdin.write("go\n")
            result: Values = json.loads(client.stdout.readline())
            after, _ = used(root)
            client.stdin.close()
    return result | {
        "lost": result["lost"] + run.readers - ready,
        "cpu": result["delivered"] / max(after - waiting, TICK),
        "speed": result["delivered"] / max(result["seconds"], TICK),
        "memory": max(full - empty, 1) / max(ready, 1),
        "connects": ready / max(waiting - before, TICK),
    }


def compare(name: str, runs: dict[str, Run]) -> Values:
    """Do every run with one server; a value's name begins with its run's."""
    found: Values = {}
    for letter, run in runs.items():
        say(f"{name}: run {letter}, {run.readers:,} readers, {run.events:,} events")
        values = measure(SERVERS[name], run)
        found |= {f"{letter} {key}": value for key, value in values.items()}
    return found | {"lost": sum(found[f"{letter} lost"] for letter in runs)}


def table(results: dict[str, Values]) -> str:
    """Return the numbers, and beside each in brackets how many times better than naive and bare."""
    bases = [name for name in ("naive", "bare") if name in results]
    heads = [f"{name} (to {', '.join(bases)})" if bases else name for name in results]
    lines = [f"| | {' | '.join(heads)} |", "|---|" + "---:|" * len(results)]
    for row in MEASURES:
        cells = [
            cell(row, values, [results[base] for base in bases]) for values in results.values()
        ]
        lines.append(f"| {row.title} | {' | '.join(cells)} |")
    lost = [f"{values['lost']:,.0f}" for values in results.values()]
    return "\n".join([*lines, f"| lost deliveries and connects | {' | '.join(lost)} |"])


def cell(row: Measure, values: Values, bases: list[Values]) -> str:
    value = values[row.key]
    found = [row.ratio(value, base[row.key]) for base in bases]
    # A bare reader takes no memory that could be seen: a ratio to nothing says nothing.
    ratios = ", ".join(f"{ratio:.2f}" if 1e-3 < ratio < 1e3 else "-" for ratio in found)
    return f"{value:,.0f} ({ratios})" if ratios else f"{value:,.0f}"


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def machine() -> str:
    """Name the machine that the numbers are of."""
    cpus = Path("/proc/cpuinfo").read_text()
    model = cpus.partition("model name")[2].partition("\n")[0].strip("\t :") or platform.machine()
    return f"{cpus.count('processor')} cores, {model}, Python {platform.python_version()}"


def fitting(run: Run) -> Run:
    """Return a run with no more readers than files may be opened; Tidings itself keeps a fifth."""
    most = files() * 3 // 4
    if run.readers > most:
        say(f"Only {most:,} of {run.readers:,} readers: {files():,} files may be opened")
    return replace(run, readers=min(run.readers, most))


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests/bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="medians of N")
    parser.add_argument("--picture", type=Path, metavar="SVG", help="where to draw the ratios")
    parser.add_argument("servers", nargs="*", metavar="server", help=", ".join(SERVERS))
    return parser.parse_args()


def main() -> int:
    """Return 1 where anything was lost."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # no server is left behind
    chosen = options()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    runs = {k: fitting(run.quick() if chosen.quick else run) for k, run in RUNS.items()}
    results = {}
    for name in chosen.servers or SERVERS:
        if reason := missing(name):
            say(f"{name} is left out: {reason}")
            continue
        rounds = [compare(name, runs) for _ in range(chosen.repeat)]
        results[name] = {key: median(values[key] for values in rounds) for key in rounds[0]}
        results[name]["lost"] = sum(values["lost"] for values in rounds)
    what = f"{machine()}. Medians of {chosen.repeat}." + " A tenth of the size." * chosen.quick
    say(f"\n{what} In brackets: how many times better.\n\n{table(results)}")
    if chosen.picture and "naive" in results:
        chosen.picture.write_text(draw(ratios(results), what))
    return int(any(values["lost"] for values in results.values()))


def ratios(results: dict[str, Values]) -> dict[str, dict[str, float]]:
    """Return how many times better than naive each other server is, by what is drawn."""
    naive = results["naive"]
    return {
        row.title: {
            name: row.ratio(values[row.key], naive[row.key])
            for name, values in results.items()
            if name != "naive"
        }
        for row in MEASURES
        if row.drawn
    }


if __name__ == "__main__":
    sys.exit(main())
