"""The aims of Tidings, most of them as ratios within one run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Aim:
    """An aim: a value of Tidings, or its ratio to another, at least or at most."""

    title: str
    key: str
    limit: float
    server: str = "tidings"  # of the value it is divided by
    by: str = ""  # that value; nothing: it is not divided
    least: bool = False

    def found(self, results: dict[str, dict[str, float]]) -> float | None:
        """Return the measured value or ratio, or None where it was not measured."""
        value = results.get("tidings", {}).get(self.key)
        if not self.by or value is None:
            return value
        base = results.get(self.server, {}).get(self.by)
        return value / base if base else None

    def reached(self, value: float) -> bool:
        return value >= self.limit if self.least else value <= self.limit


def to(server: str, title: str, key: str, least: float) -> Aim:
    return Aim(f"{title}, to {server}", key, least, server, key, least=True)


def within(run: str, times: float) -> list[Aim]:
    """Return the aims for the latency of a run, as a multiple of nchan's."""
    shares = {"p50": "median latency", "p99": "latency at 99 %"}
    return [
        Aim(f"{run}/s: {title}, to nchan", f"{run} {key}", times, "nchan", f"{run} {key}")
        for key, title in shares.items()
    ]


def fewer_bytes(title: str, run: str, times: float) -> Aim:
    """Return the aim for the bytes of a run, to those of its compressed form."""
    name = f"P: bytes of {title}, plain to gzip"
    return Aim(name, f"{run} wire", times, by=f"{run} gzip wire", least=True)


def gzip_cpu(title: str, run: str, least: float) -> Aim:
    """Return the aim for the CPU of a run's compressed form, to that of the run."""
    name = f"P: deliveries per CPU-second, {title}, gzip to plain"
    return Aim(name, f"{run} gzip cpu", least, by=f"{run} cpu", least=True)


_EMPTY_VIEW = ("naive", "E view accepted")

AIMS = [
    to("nchan", "A: deliveries per CPU-second", "A cpu", 1.05),
    to("bare", "A: deliveries per CPU-second", "A cpu", 0.75),
    to("nchan", "B: deliveries per CPU-second", "B cpu", 1.0),
    Aim("B: latency at 99 %, to nchan", "B p99", 1.15, "nchan", "B p99"),
    to("nchan", "C: deliveries per second", "C speed", 20),
    Aim("C in SQLite, to nchan", "C sqlite speed", 12, "nchan", "C speed", least=True),
    Aim("D: bytes per waiting subscriber", "D memory", 6_000),
    to("naive", "D: connects per CPU-second", "D connects", 1.3),
    Aim("D: % of a core while idle", "D idle share", 3),
    Aim("E: events, to an empty view", "E accepted", 0.8, *_EMPTY_VIEW, least=True),
    Aim("E: pipe, to an empty view", "E pipe accepted", 20, *_EMPTY_VIEW, least=True),
    Aim("E in SQLite, to an empty view", "E sqlite accepted", 0.6, *_EMPTY_VIEW, least=True),
    Aim(
        "E: pipe in SQLite, to an empty view", "E pipe sqlite accepted", 8, *_EMPTY_VIEW, least=True
    ),
    Aim("F: lost deliveries and connects", "F lost", 0),
    Aim("F: closed subscribers", "F closed", 0),
    Aim("F: latency at 99 %, ms", "F p99", 1000),
    Aim("F: longest garbage collection, ms", "F pause", 50),
    Aim("F: /healthz meanwhile, at 99 %, ms", "F healthz", 50),
    Aim("F: publishing meanwhile, at 99 %, ms", "F publish", 50),
    Aim("G: latency at 99 %, to no stall", "G stall p99", 1.2, by="G calm p99"),
    Aim("G: memory, MB", "G stall grown", 20),
    Aim("G: resumed without the exact sequence", "G stall wrong", 0),
    Aim("H: event to one of 10,000, to one of 10", "H own cost", 1.5, by="H ten cost"),
    Aim("H: 1,000 tokens, to none", "H tokens cpu", 0.8, by="H open cpu", least=True),
    Aim("J: SQLite, median latency, ms", "J sqlite p50", 10),
    Aim("J: SQLite, latency at 99 %, ms", "J sqlite p99", 25),
    Aim("J: Redis, median latency, ms", "J redis p50", 3),
    Aim("K: two workers, to one", "K two busiest", 1.8, by="K one busiest", least=True),
    Aim("L: replay from the window, events/s", "L window speed", 200_000, least=True),
    Aim("L: replay from SQLite, events/s", "L sqlite speed", 50_000, least=True),
    Aim("M: events/s committed by SQLite", "M sqlite speed", 10_000, least=True),
    Aim("E: pipe, PostgreSQL, events/s", "E pipe postgres accepted", 15_000, least=True),
    Aim("E: the same with own ids", "E pipe ids postgres accepted", 12_000, least=True),
    Aim("J: PostgreSQL, median latency, ms", "J postgres p50", 5),
    Aim("J: the same behind a pooler, ms", "J polling p50", 20),
    Aim("L: replay from PostgreSQL, events/s", "L postgres speed", 50_000, least=True),
    Aim("M: events/s committed by PostgreSQL", "M postgres speed", 10_000, least=True),
    Aim("M: own ids and two topics", "M ids postgres speed", 8_000, least=True),
    fewer_bytes("JSON", "P json", 3.5),
    fewer_bytes("HTML rows", "P rows", 8),
    fewer_bytes("varied HTML", "P html", 4.5),
    fewer_bytes("JSON, each stays a minute", "P minute", 3.5),
    gzip_cpu("JSON, 10 events/s", "P json", 0.95),
    gzip_cpu("JSON back to back", "P burst", 1.0),
    Aim("P: latency of a first event, gzip to plain", "P first gzip p50", 1.2, by="P first p50"),
    *within("O 1000 at 50", 1.1),
    to("nchan", "O 1000 at 50/s: deliveries per CPU-second", "O 1000 at 50 cpu", 1.0),
    *within("O 300 at 50", 1.1),
    *within("O 1000 at 20", 1.1),
    *within("O 10 at 100", 2),
]
