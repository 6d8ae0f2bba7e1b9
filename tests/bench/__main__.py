"""Tidings beside the usual Flask stack and the limit, in one run on one machine.

Absolute numbers are this machine's; what can be compared with others is the ratio.
`python tests/bench --help` says what can be chosen.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import select
import signal
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from typing import IO, TYPE_CHECKING, Any

from aims import AIMS
from brokers import event_log, missing_program
from picture import draw
from ratios import gzip_ratios, ratios
from runs import KEY, MEASURES, RUNS, Measure, Run
from servers import HERE, ROOT, SERVERS, SETTLE_S, environment, files, missing, running, used

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator

    from servers import Server

_HEADERS_BYTES = 52  # of TCP and IP, in each packet
_LEAST_S = 0.001  # a shorter time counts as this
Values = dict[str, float]


def measure(server: Server, run: Run) -> Values:
    """Start a server, do one run, and return all its values."""
    settings = run.settings | ({"TIDINGS_JWT_KEY": KEY} if run.locked else {})
    publish = run.publish or server.publish
    with ExitStack() as stack:
        settings["TIDINGS_BROKER_URL"] = stack.enter_context(event_log(run.broker))
        if run.inside:
            return inside(run, settings)
        root, port = stack.enter_context(running(server, run.workers, **settings))
        if run.probe:
            pause(port)
        before, empty = used(root)
        spec = json.dumps(asdict(run))
        client = stack.enter_context(helper("client", port, server.subscribe, publish, spec))
        ready = answer(client)["ready"]
        time.sleep(SETTLE_S)
        waiting, full = used(root)
        time.sleep(run.hold)
        held, _ = used(root)
        probe = (
            stack.enter_context(helper("probe", port, publish + "-probe")) if run.probe else None
        )
        send(client, "go\n")
        most = full
        while run.stall and not answers(client, within=1):
            most = max(most, used(root)[1])
        result = answer(client)
        after, _ = used(root)
        if probe:
            send(probe)
            result |= answer(probe) | pause(port)
    spent = seconds(after, held)
    return result | {
        "cpu": result["delivered"] / max(sum(spent), _LEAST_S),
        "busiest": result["delivered"] / max(*spent, _LEAST_S),
        "cost": sum(spent) / max(run.events, 1) * 1e6,
        "packet": result.get("wire", 0) + _HEADERS_BYTES,
        "speed": result["delivered"] / max(result["seconds"], _LEAST_S),
        "memory": max(full - empty, 1) / max(ready, 1),
        "connects": ready / max(sum(seconds(waiting, before)), _LEAST_S),
        "share": sum(seconds(held, waiting)) / max(run.hold, _LEAST_S) * 100,
        "grown": (most - full) / 1e6,
    }


def seconds(after: Counter[int], before: Counter[int]) -> list[float]:
    """Return the CPU that each process took between two looks."""
    return [(spent - before[pid]) / 1e9 for pid, spent in after.items()]


def inside(run: Run, settings: dict[str, str]) -> Values:
    """Return the values of a broker in a process of its own, without HTTP."""
    script = [str(HERE / "without_http.py"), run.inside, str(run.events), str(run.publishers)]
    script += ["ids"] if run.ids else []
    env = environment(settings | {"PYTHONPATH": str(ROOT)})
    done = subprocess.run([sys.executable, *script], env=env, stdout=-1, check=True)
    found: Values = json.loads(done.stdout)
    return found


@contextmanager
def helper(name: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Run a script of this folder; it reads lines and answers with lines of JSON."""
    command = [sys.executable, str(HERE / f"{name}.py"), *map(str, arguments)]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True, bufsize=1) as process:
        yield process
        send(process)


def send(process: subprocess.Popen[str], line: str = "") -> None:
    """Send a line; without one, close its input."""
    stdin: IO[str] = process.stdin  # type: ignore[assignment] # it is a pipe
    if line:
        stdin.write(line)
    else:
        stdin.close()


def answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    stdout: IO[str] = process.stdout  # type: ignore[assignment] # it is a pipe
    found: dict[str, Any] = json.loads(stdout.readline())
    return found


def answers(process: subprocess.Popen[str], *, within: float) -> bool:
    stdout: IO[str] = process.stdout  # type: ignore[assignment] # it is a pipe
    return bool(select.select([stdout], [], [], within)[0])


def pause(port: int) -> Values:
    """Return how long garbage collection has stopped the hub, since this was last asked."""
    connection = HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/pause")
    found: Values = json.loads(connection.getresponse().read())
    connection.close()
    return found


def compare(servers: list[str], runs: dict[str, Run], repeat: int) -> dict[str, Values]:
    """Do every run with each server in turn; a value's name begins with its run's."""
    found = {name: defaultdict[str, list[float]](list) for name in servers}
    for letter, run in runs.items():  # what is compared is done at about the same time
        for _ in range(repeat):
            for name in servers:
                if name in (run.only or name).split() and not missing_program(run.broker):
                    count = f"{run.subscribers:,} subscribers, {run.events:,} events"
                    say(f"{name}: run {letter}, {count}")
                    for key, value in measure(SERVERS[name], run).items():
                        found[name][f"{letter} {key}"].append(value)
    return {name: summed_up(values) for name, values in found.items()}


def summed_up(values: dict[str, list[float]]) -> Values:
    """Return each value's median, and what was lost in all."""
    lost = sum(sum(found) for key, found in values.items() if key.endswith(" lost"))
    return {key: median(found) for key, found in values.items()} | {"lost": lost}


def table(results: dict[str, Values]) -> str:
    """Return the numbers, and beside each in brackets how many times better than naive and bare."""
    bases = [name for name in ("naive", "bare") if name in results]
    heads = [f"{name} (to {', '.join(bases)})" if bases else name for name in results]
    lines = [f"| | {' | '.join(heads)} |", "|---|" + "---:|" * len(results)]
    for row in MEASURES:
        if any(row.key in values for values in results.values()):
            cells = [
                cell(row, values, [results[base] for base in bases]) for values in results.values()
            ]
            lines.append(f"| {row.title} | {' | '.join(cells)} |")
    lost = [f"{values['lost']:,.0f}" for values in results.values()]
    return "\n".join([*lines, f"| lost deliveries and connects | {' | '.join(lost)} |"])


def cell(row: Measure, values: Values, bases: list[Values]) -> str:
    if row.key not in values:
        return ""
    value = values[row.key]
    found = [row.ratio(value, base[row.key]) for base in bases if row.key in base]
    # A bare subscriber takes no memory that could be seen: a ratio to nothing says nothing.
    ratios = ", ".join(f"{ratio:.2f}" if 1e-3 < ratio < 1e3 else "-" for ratio in found)
    return f"{number(value)} ({ratios})" if ratios else number(value)


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == round(value) else f"{value:.2f}"


def aims(results: dict[str, Values]) -> str:
    """Return the table of the aims."""
    lines = ["| what Tidings is to reach | limit | found | |", "|---|---:|---:|---|"]
    for aim in AIMS:
        if (value := aim.found(results)) is not None:
            limit = f"{'at least' if aim.least else 'at most'} {aim.limit:,}"
            reached = "" if aim.reached(value) else "not reached"
            lines.append(f"| {aim.title} | {limit} | {number(value)} | {reached} |")
    return "\n".join(lines)


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def machine() -> str:
    """Name the machine that the numbers are of."""
    cpus = Path("/proc/cpuinfo").read_text()
    model = cpus.partition("model name")[2].partition("\n")[0].strip("\t :") or platform.machine()
    return f"{cpus.count('processor')} cores, {model}, Python {platform.python_version()}"


def fitting(run: Run) -> Run:
    """Return a run whose subscribers fit the limit of open files; Tidings keeps a fifth of it."""
    most = files() * 3 // 4
    if run.subscribers > most:
        say(f"Only {most:,} of {run.subscribers:,} subscribers: {files():,} files may be opened")
    return replace(run, subscribers=min(run.subscribers, most))


def names(text: str) -> list[str]:
    """Return the runs that are named, by their names or by their first letters."""
    asked = [part.casefold() for part in text.split(",")]
    found = [name for name in RUNS if {name.casefold(), name[0].casefold()} & set(asked)]
    known = {name.casefold() for name in RUNS} | {name[0].casefold() for name in RUNS}
    if not set(asked) <= known:
        message = f"there are {', '.join(RUNS)}; a letter means all that begin with it"
        raise argparse.ArgumentTypeError(message)
    return found


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests/bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small runs that show that all works")
    parser.add_argument("--runs", type=names, default=RUNS, metavar="A,E pipe", help="only these")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="medians of N")
    parser.add_argument("--picture", type=Path, metavar="SVG", help="where to draw the ratios")
    parser.add_argument("--gzip-picture", type=Path, metavar="SVG", help="what run P saves")
    parser.add_argument("servers", nargs="*", metavar="server", help=", ".join(SERVERS))
    return parser.parse_args()


def main() -> int:
    """Return 1 where anything was lost."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # no server is left behind
    chosen = options()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    runs = {name: RUNS[name] for name in chosen.runs}
    runs = {name: fitting(run.quick() if chosen.quick else run) for name, run in runs.items()}
    for program in sorted({missing_program(run.broker) for run in runs.values()} - {""}):
        say(f"{program} is not installed: the runs that need it are left out")
    servers = []
    for name in chosen.servers or SERVERS:
        if reason := missing(name):
            say(f"{name} is left out: {reason}")
        else:
            servers.append(name)
    results = compare(servers, runs, chosen.repeat)
    what = f"{machine()}. Medians of {chosen.repeat}." + " Small runs." * chosen.quick
    say(f"\n{what} In brackets: how many times better.\n\n{table(results)}\n\n{aims(results)}")
    if chosen.picture and "naive" in results:
        title = "Times better than Flask + gevent"
        chosen.picture.write_text(draw(ratios(results), title, "naive", what))
    if chosen.gzip_picture and (found := gzip_ratios(results.get("tidings", {}))):
        title = "Compressed streams: times better than plain ones"
        chosen.gzip_picture.write_text(draw(found, title, "plain", what))
    return int(any(values["lost"] for values in results.values()))


if __name__ == "__main__":
    sys.exit(main())
