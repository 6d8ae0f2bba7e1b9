"""What is measured: which readers, which events, and what must come out of it.

A run's first letter names what it belongs to; `G stall` and `G calm` are compared with each other.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

NAMES = {"memory": "in memory", "sqlite": "SQLite", "redis": "Redis", "valkey": "Valkey"}
LOGS = list(NAMES)
SHARED = LOGS[1:]  # by all workers
KEY = "a-key-of-the-benchmark-that-is-long-enough"


@dataclass(frozen=True)
class Run:
    """Readers, then events at a rate a second; 0: the next when the last was answered."""

    readers: int
    events: int = 0
    rate: float = 0
    size: int = 100  # bytes of an event's data
    only: str = ""  # the one server that it is for
    publish: str = ""  # where to, instead of the server's own path
    publishers: int = 1  # at once, each with a part of the events
    pipe: bool = False  # one NDJSON request brings all events
    own: bool = False  # a topic for each reader; all events are the first one's
    locked: bool = False  # the hub has a key
    tokens: bool = False  # a token for each reader, all with the same rights
    hold: float = 0  # seconds of waiting before the events
    apart: int = 0  # readers whose latency is not counted, with small buffers
    stall: float = 0  # seconds that these do not read; then half of them leave
    stall_at: float = 2  # seconds after which they begin
    probe: bool = False  # ask and publish meanwhile, from a process of its own
    log: str = "memory"  # where the events are kept
    workers: int = 1
    settings: dict[str, str] = field(default_factory=dict)  # of the hub
    replay: bool = False  # all events are there before the readers come
    gather: bool = False  # nobody reads while an event is on its way to all
    inside: str = ""  # no server: what inside.py is to do

    def quick(self) -> Run:
        """Return a small one: it shows that all works, and says nothing about speed."""
        return replace(
            self,
            readers=-(-self.readers // 20),
            events=self.events // 20,
            rate=self.rate * 2,
            apart=self.apart // 20,
            stall=self.stall / 40,
            stall_at=self.stall_at / 20,
            hold=self.hold / 20,
        )


# Long enough to fill the socket of a reader that does not read, several times.
STALL = Run(1000, 380, 10, size=4000, only="tidings", apart=100)
TOKENS = Run(1000, 50, 10, only="tidings", locked=True)
OWN = Run(10_000, 2000, only="tidings", own=True)
PIPE = Run(1, 100_000, only="tidings", pipe=True)
CROWD = Run(1, 20_000, only="tidings", publishers=50)
ACROSS = Run(50, 500, 50, only="tidings", workers=2)
FAN_OUT = Run(5000, 20, only="tidings", log="sqlite", gather=True)
KEPT = {"TIDINGS_HISTORY_EVENTS": "1000000", "TIDINGS_HISTORY_BYTES": "1G"}
AT_HAND = {**KEPT, "TIDINGS_WINDOW_EVENTS": "1000000", "TIDINGS_WINDOW_BYTES": "1G"}
FAR = {**KEPT, "TIDINGS_WINDOW_EVENTS": "100"}
REPLAY = Run(1, 100_000, only="tidings", pipe=True, replay=True, settings=FAR)
INSIDE = Run(0, 100_000, only="tidings", settings=KEPT)
RUNS = {
    "A": Run(1000, 50, 10),
    "B": Run(5000, 40, 4),
    "C": Run(1000, 300),
    "C sqlite": Run(1000, 300, only="tidings", log="sqlite"),
    "D": Run(10_000),
    "D idle": Run(10_000, hold=30, only="tidings"),
    "E": Run(1, 3000),
    "E view": Run(0, 3000, only="naive", publish="/nothing"),
    "E pipe": PIPE,
    **{f"E {log}": Run(1, 3000, only="tidings", log=log) for log in SHARED},
    **{f"E pipe {log}": replace(PIPE, log=log) for log in SHARED},
    "F": Run(15_000, 120, 2, only="tidings", probe=True),
    "G stall": replace(STALL, stall=30),
    "G calm": STALL,
    "H own": OWN,
    "H ten": replace(OWN, readers=10),
    "H tokens": replace(TOKENS, tokens=True),
    "H open": TOKENS,
    **{f"I {log}": replace(CROWD, log=log) for log in LOGS},
    **{f"J {log}": replace(ACROSS, log=log) for log in SHARED},
    "K one": FAN_OUT,
    "K two": replace(FAN_OUT, workers=2),
    "L window": replace(REPLAY, settings=AT_HAND),
    **{f"L {log}": replace(REPLAY, log=log) for log in SHARED},
    **{f"M {log}": replace(INSIDE, log=log, publishers=50, inside="commit") for log in LOGS},
    **{f"N {log}": replace(INSIDE, log=log, inside="follow") for log in SHARED},
}


@dataclass(frozen=True)
class Measure:
    """A row of the table: the run's and value's name, a title, and whether less is better."""

    key: str
    title: str
    less: bool = False
    drawn: bool = False

    def ratio(self, value: float, base: float) -> float:
        """Return how many times better a value is."""
        better, worse = (base, value) if self.less else (value, base)
        return better / worse if worse else 1.0


MEASURES = [
    Measure("A cpu", "A: 1,000 readers, 10 events/s: deliveries per CPU-second", drawn=True),
    Measure("A p50", "A: latency, median, ms", less=True),
    Measure("A p99", "A: latency at 99 %, ms", less=True),
    Measure("B cpu", "B: 5,000 readers, 4 events/s: deliveries per CPU-second", drawn=True),
    Measure("B p99", "B: latency at 99 %, ms", less=True),
    Measure("C speed", "C: 1,000 readers, back to back: deliveries per second", drawn=True),
    Measure("C sqlite speed", "C: the same, log in SQLite"),
    Measure("D memory", "D: 10,000 waiting readers: bytes each", less=True, drawn=True),
    Measure("D connects", "D: connects per CPU-second", drawn=True),
    Measure("D idle share", "D: % of a core while idle, with heartbeats", less=True),
    Measure("E accepted", "E: one connection: events accepted per second", drawn=True),
    Measure("E view accepted", "E: a view that does nothing: requests per second"),
    *(Measure(f"E {log} accepted", f"E: one connection, {NAMES[log]}") for log in SHARED),
    Measure("E pipe accepted", "E: one NDJSON pipe: events accepted per second"),
    *(Measure(f"E pipe {log} accepted", f"E: one NDJSON pipe, {NAMES[log]}") for log in SHARED),
    Measure("F p99", "F: 15,000 readers, 2 events/s: latency at 99 %, ms", less=True),
    Measure("F closed", "F: readers that were closed", less=True),
    Measure("F pause", "F: longest garbage collection, ms", less=True),
    Measure("F asked", "F: /healthz meanwhile, longest of 99 %, ms", less=True),
    Measure("F asked most", "F: /healthz meanwhile, longest, ms", less=True),
    Measure("F told", "F: publishing meanwhile, longest of 99 %, ms", less=True),
    Measure("F told most", "F: publishing meanwhile, longest, ms", less=True),
    Measure(
        "G stall p99", "G: 100 of 1,000 stop reading: latency of the others at 99 %, ms", less=True
    ),
    Measure("G calm p99", "G: the same, and none stops reading", less=True),
    Measure("G stall grown", "G: memory that the server takes for it, MB", less=True),
    Measure("G stall wrong", "G: resumed readers without the exact sequence", less=True),
    Measure("H own cost", "H: 10,000 topics: CPU of an event to one, µs", less=True),
    Measure("H ten cost", "H: 10 topics: CPU of an event to one, µs", less=True),
    Measure("H tokens cpu", "H: 1,000 tokens: deliveries per CPU-second"),
    Measure("H open cpu", "H: no tokens: deliveries per CPU-second"),
    *(
        Measure(f"I {log} accepted", f"I: 50 connections: events accepted per second, {name}")
        for log, name in NAMES.items()
    ),
    *(
        Measure(f"J {log} {key}", f"J: {title} at another worker, ms, {NAMES[log]}", less=True)
        for log in SHARED
        for key, title in (("p50", "latency, median,"), ("p99", "latency at 99 %"))
    ),
    Measure("K one busiest", "K: deliveries per CPU-second of the one worker, SQLite"),
    Measure("K two busiest", "K: two workers: deliveries per CPU-second of the busier one"),
    Measure("K one speed", "K: one worker: deliveries per second, on a machine's free cores"),
    Measure("K two speed", "K: the same with two workers"),
    Measure("L window speed", "L: replay to a reader: events per second, at hand"),
    *(Measure(f"L {log} speed", f"L: the same, from {NAMES[log]}") for log in SHARED),
    *(
        Measure(f"M {log} speed", f"M: a broker alone, 50 publishers: drafts per second, {name}")
        for log, name in NAMES.items()
    ),
    *(
        Measure(f"N {log} speed", f"N: events that a hub follows per second, {NAMES[log]}")
        for log in SHARED
    ),
]
