"""What is measured: which readers, which events, and what must come out of it.

A run's first letter names what it belongs to; `G` and `G calm` are compared with each other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

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
    pipe: bool = False  # one NDJSON request brings all events
    own: bool = False  # a topic for each reader; all events are the first one's
    locked: bool = False  # the hub has a key
    tokens: bool = False  # a token for each reader, all with the same rights
    hold: float = 0  # seconds of waiting before the events
    apart: int = 0  # readers whose latency is not counted, with small buffers
    stall: float = 0  # seconds that these do not read; then half of them leave
    probe: bool = False  # ask and publish meanwhile, from a process of its own

    def quick(self) -> Run:
        """Return a small one: it shows that all works, and says nothing about speed."""
        return replace(
            self,
            readers=-(-self.readers // 10),
            events=self.events // 20,
            rate=self.rate * 2,
            apart=self.apart // 10,
            stall=self.stall / 20,
            hold=self.hold / 20,
        )


# Long enough to fill the socket of a reader that does not read, several times.
STALL = Run(1000, 380, 10, size=4000, only="tidings", apart=100)
TOKENS = Run(1000, 50, 10, only="tidings", locked=True)
OWN = Run(10_000, 2000, only="tidings", own=True)
RUNS = {
    "A": Run(1000, 50, 10),
    "B": Run(5000, 40, 4),
    "C": Run(1000, 300),
    "D": Run(10_000),
    "D idle": Run(10_000, hold=30, only="tidings"),
    "E": Run(1, 3000),
    "E view": Run(0, 3000, only="naive", publish="/nothing"),
    "E pipe": Run(1, 100_000, only="tidings", pipe=True),
    "F": Run(15_000, 120, 2, only="tidings", probe=True),
    "G": replace(STALL, stall=30),
    "G calm": STALL,
    "H own": OWN,
    "H ten": replace(OWN, readers=10),
    "H tokens": replace(TOKENS, tokens=True),
    "H open": TOKENS,
}
LETTERS = sorted({name[0] for name in RUNS})


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
    Measure("D memory", "D: 10,000 waiting readers: bytes each", less=True, drawn=True),
    Measure("D connects", "D: connects per CPU-second", drawn=True),
    Measure("D idle share", "D: % of a core while idle, with heartbeats", less=True),
    Measure("E accepted", "E: one connection: events accepted per second", drawn=True),
    Measure("E view accepted", "E: a view that does nothing: requests per second"),
    Measure("E pipe accepted", "E: one NDJSON pipe: events accepted per second"),
    Measure("F p99", "F: 15,000 readers, 2 events/s: latency at 99 %, ms", less=True),
    Measure("F closed", "F: readers that were closed", less=True),
    Measure("F pause", "F: longest garbage collection, ms", less=True),
    Measure("F asked", "F: /healthz meanwhile, longest of 99 %, ms", less=True),
    Measure("F asked most", "F: /healthz meanwhile, longest, ms", less=True),
    Measure("F told", "F: publishing meanwhile, longest of 99 %, ms", less=True),
    Measure("F told most", "F: publishing meanwhile, longest, ms", less=True),
    Measure("G p99", "G: 100 of 1,000 stop reading: latency of the others at 99 %, ms", less=True),
    Measure("G calm p99", "G: the same, and none stops reading", less=True),
    Measure("G grown", "G: memory that the server takes for it, MB", less=True),
    Measure("G wrong", "G: resumed readers without the exact sequence", less=True),
    Measure("H own cost", "H: 10,000 topics: CPU of an event to one, µs", less=True),
    Measure("H ten cost", "H: 10 topics: CPU of an event to one, µs", less=True),
    Measure("H tokens cpu", "H: 1,000 tokens: deliveries per CPU-second"),
    Measure("H open cpu", "H: no tokens: deliveries per CPU-second"),
]
