"""What is measured: which subscribers, which events, and what must come out of it.

A run's first letter names what it belongs to; `G stall` and `G calm` are compared with each other.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

TEXTS = {
    "json": "JSON of 130 bytes",
    "rows": "HTML rows of one template, 275 bytes",
    "html": "varied HTML, 300 bytes",
}
NAMES = {
    "memory": "in memory",
    "sqlite": "SQLite",
    "redis": "Redis",
    "valkey": "Valkey",
    "postgres": "PostgreSQL",
}
BROKERS = list(NAMES)
SHARED = BROKERS[1:]  # by all workers
KEY = "a-key-of-the-benchmark-that-is-long-enough"


@dataclass(frozen=True)
class Run:
    """Subscribers, then events at a rate a second; 0: the next when the last was answered."""

    subscribers: int
    events: int = 0
    rate: float = 0
    size: int = 100  # bytes of an event's data
    only: str = ""  # the servers that it is for; nothing: all
    publish: str = ""  # where to, instead of the server's own path
    publishers: int = 1  # at once, each with a part of the events
    pipe: bool = False  # one NDJSON request brings all events
    ids: bool = False  # each event has an id of the publisher's own, and inside, two topics
    own: bool = False  # a topic for each subscriber; all events are the first one's
    locked: bool = False  # the hub has a key
    tokens: bool = False  # a token for each subscriber, all with the same rights
    hold: float = 0  # seconds of waiting before the events
    apart: int = 0  # subscribers whose latency is not counted, with small buffers
    stall: float = 0  # seconds that these do not read; then half of them leave
    stall_at: float = 2  # seconds after which they begin
    probe: bool = False  # ask and publish meanwhile, from a process of its own
    broker: str = "memory"  # that keeps the event log
    workers: int = 1
    settings: dict[str, str] = field(default_factory=dict)  # of the hub
    replay: bool = False  # all events are published before the subscribers connect
    time_fan_out: bool = False  # no subscriber reads until an event has reached all sockets
    stay: int = 0  # events after which a subscriber leaves and another one comes; 0: all stay
    gzip: bool = False  # the subscribers accept it
    later: bool = False  # they look at what they received when all events are published
    text: str = ""  # of the data, see `texts.py`; nothing: padding
    inside: str = ""  # no server: what without_http.py does

    def quick(self) -> Run:
        """Return a small one: it shows that all works, and says nothing about speed."""
        return replace(
            self,
            subscribers=-(-self.subscribers // 20),
            events=self.events // 20,
            rate=self.rate * 2,
            stay=-(-self.stay // 20),
            apart=self.apart // 20,
            stall=self.stall / 40,
            stall_at=self.stall_at / 20,
            hold=self.hold / 20,
        )


# Long enough to fill the socket of a subscriber that does not read, several times.
STALL = Run(1000, 380, 10, size=4000, only="tidings", apart=100)
TOKENS = Run(1000, 50, 10, only="tidings", locked=True)
OWN = Run(10_000, 2000, only="tidings", own=True)
PIPE = Run(1, 100_000, only="tidings", pipe=True)
CROWD = Run(1, 20_000, only="tidings", publishers=50)
ACROSS = Run(50, 500, 50, only="tidings", workers=2)
FAN_OUT = Run(5000, 20, only="tidings", broker="sqlite", time_fan_out=True)
LARGE_LOG = {"TIDINGS_HISTORY_EVENTS": "1000000", "TIDINGS_HISTORY_BYTES": "1G"}
LARGE_WINDOW = {**LARGE_LOG, "TIDINGS_WINDOW_EVENTS": "1000000", "TIDINGS_WINDOW_BYTES": "1G"}
SMALL_WINDOW = {**LARGE_LOG, "TIDINGS_WINDOW_EVENTS": "100"}
REPLAY = Run(1, 100_000, only="tidings", pipe=True, replay=True, settings=SMALL_WINDOW)
INSIDE = Run(0, 100_000, only="tidings", settings=LARGE_LOG)
# Ten seconds of events, at rates at which a server need not gather them, or only just.
GATHERING = {
    f"O {subscribers} at {rate}": Run(subscribers, 10 * rate, rate, only="tidings nchan")
    for subscribers, rate in ((1000, 50), (300, 50), (1000, 20), (10, 100))
}
# What compression saves and costs. An event each tenth of a second, each in packets of its own.
COMPRESSED = {
    f"P {text}{how}": Run(1000, 300, 10, only="tidings", text=text, gzip=bool(how))
    for text in ("json", "rows", "html")
    for how in ("", " gzip")
}
# To decode for all subscribers would slow the publisher down: the hub would join fewer events.
BURST = Run(1000, 1000, only="tidings", text="json", later=True)
# Each subscriber stays a minute. What counts is the second one.
STAYING = Run(1000, 120, 1, only="tidings", text="json", stay=60)
# Each event is the first one of the stream: then it leaves, and another comes.
FIRST = Run(1, 200, 10, only="tidings", text="json", stay=1)
RUNS = {
    "A": Run(1000, 50, 10),
    "B": Run(5000, 40, 4),
    "C": Run(1000, 300),
    "C sqlite": Run(1000, 300, only="tidings", broker="sqlite"),
    "D": Run(10_000),
    "D idle": Run(10_000, hold=30, only="tidings"),
    "E": Run(1, 3000),
    "E view": Run(0, 3000, only="naive", publish="/nothing"),
    "E pipe": PIPE,
    **{f"E {broker}": Run(1, 3000, only="tidings", broker=broker) for broker in SHARED},
    **{f"E pipe {broker}": replace(PIPE, broker=broker) for broker in SHARED},
    "E pipe ids postgres": replace(PIPE, broker="postgres", ids=True),
    "F": Run(15_000, 120, 2, only="tidings", probe=True),
    "G stall": replace(STALL, stall=30),
    "G calm": STALL,
    "H own": OWN,
    "H ten": replace(OWN, subscribers=10),
    "H tokens": replace(TOKENS, tokens=True),
    "H open": TOKENS,
    **{f"I {broker}": replace(CROWD, broker=broker) for broker in BROKERS},
    **{f"J {broker}": replace(ACROSS, broker=broker) for broker in SHARED},
    "J polling": replace(ACROSS, broker="postgres?listen=off"),
    "K one": FAN_OUT,
    "K two": replace(FAN_OUT, workers=2),
    "L window": replace(REPLAY, settings=LARGE_WINDOW),
    **{f"L {broker}": replace(REPLAY, broker=broker) for broker in SHARED},
    **{
        f"M {broker}": replace(INSIDE, broker=broker, publishers=50, inside="commit")
        for broker in BROKERS
    },
    "M ids postgres": replace(INSIDE, broker="postgres", publishers=50, inside="commit", ids=True),
    **{f"N {broker}": replace(INSIDE, broker=broker, inside="follow") for broker in SHARED},
    **GATHERING,
    **COMPRESSED,
    "P minute": STAYING,
    "P minute gzip": replace(STAYING, gzip=True),
    "P first": FIRST,
    "P first gzip": replace(FIRST, gzip=True),
    "P burst": BURST,
    "P burst gzip": replace(BURST, gzip=True),
    "P idle": Run(10_000, only="tidings"),
    "P idle gzip": Run(10_000, only="tidings", gzip=True),
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
    Measure("A cpu", "A: 1,000 subscribers, 10 events/s: deliveries per CPU-second", drawn=True),
    Measure("A p50", "A: latency, median, ms", less=True),
    Measure("A p99", "A: latency at 99 %, ms", less=True),
    Measure("B cpu", "B: 5,000 subscribers, 4 events/s: deliveries per CPU-second", drawn=True),
    Measure("B p99", "B: latency at 99 %, ms", less=True),
    Measure("C speed", "C: 1,000 subscribers, back to back: deliveries per second", drawn=True),
    Measure("C sqlite speed", "C: the same, event log in SQLite"),
    Measure("D memory", "D: 10,000 waiting subscribers: bytes each", less=True, drawn=True),
    Measure("D connects", "D: connects per CPU-second", drawn=True),
    Measure("D idle share", "D: % of a core while idle, with heartbeats", less=True),
    Measure("E accepted", "E: one connection: events accepted per second", drawn=True),
    Measure("E view accepted", "E: a view that does nothing: requests per second"),
    *(Measure(f"E {broker} accepted", f"E: one connection, {NAMES[broker]}") for broker in SHARED),
    Measure("E pipe accepted", "E: one NDJSON pipe: events accepted per second"),
    *(
        Measure(f"E pipe {broker} accepted", f"E: one NDJSON pipe, {NAMES[broker]}")
        for broker in SHARED
    ),
    Measure("E pipe ids postgres accepted", "E: one NDJSON pipe with own ids, PostgreSQL"),
    Measure("F p99", "F: 15,000 subscribers, 2 events/s: latency at 99 %, ms", less=True),
    Measure("F closed", "F: subscribers that were closed", less=True),
    Measure("F pause", "F: longest garbage collection, ms", less=True),
    Measure("F healthz", "F: /healthz meanwhile, longest of 99 %, ms", less=True),
    Measure("F healthz most", "F: /healthz meanwhile, longest, ms", less=True),
    Measure("F publish", "F: publishing meanwhile, longest of 99 %, ms", less=True),
    Measure("F publish most", "F: publishing meanwhile, longest, ms", less=True),
    Measure(
        "G stall p99", "G: 100 of 1,000 stop reading: latency of the others at 99 %, ms", less=True
    ),
    Measure("G calm p99", "G: the same, and none stops reading", less=True),
    Measure("G stall grown", "G: memory that the server takes for it, MB", less=True),
    Measure("G stall wrong", "G: resumed subscribers without the exact sequence", less=True),
    Measure("H own cost", "H: 10,000 topics: CPU of an event to one, µs", less=True),
    Measure("H ten cost", "H: 10 topics: CPU of an event to one, µs", less=True),
    Measure("H tokens cpu", "H: 1,000 tokens: deliveries per CPU-second"),
    Measure("H open cpu", "H: no tokens: deliveries per CPU-second"),
    *(
        Measure(f"I {broker} accepted", f"I: 50 connections: events accepted per second, {name}")
        for broker, name in NAMES.items()
    ),
    *(
        Measure(
            f"J {broker} {key}", f"J: {title} at another worker, ms, {NAMES[broker]}", less=True
        )
        for broker in SHARED
        for key, title in (("p50", "latency, median,"), ("p99", "latency at 99 %"))
    ),
    Measure("J polling p50", "J: the same, median, PostgreSQL behind a pooler", less=True),
    Measure("K one busiest", "K: deliveries per CPU-second of the one worker, SQLite"),
    Measure("K two busiest", "K: two workers: deliveries per CPU-second of the busier one"),
    Measure("K one speed", "K: one worker: deliveries per second, on a machine's free cores"),
    Measure("K two speed", "K: the same with two workers"),
    Measure("L window speed", "L: replay to a subscriber: events per second, from the window"),
    *(Measure(f"L {broker} speed", f"L: the same, from {NAMES[broker]}") for broker in SHARED),
    *(
        Measure(f"M {broker} speed", f"M: a broker alone, 50 publishers: events per second, {name}")
        for broker, name in NAMES.items()
    ),
    Measure("M ids postgres speed", "M: own ids and two topics, PostgreSQL"),
    *(
        Measure(f"N {broker} speed", f"N: events that a hub follows per second, {NAMES[broker]}")
        for broker in SHARED
    ),
    *(
        Measure(
            f"{name} {key}",
            f"O: {run.subscribers:,} subscribers, {run.rate} events/s: {title}",
            less=key != "cpu",
        )
        for name, run in GATHERING.items()
        for key, title in (
            ("p50", "latency, median, ms"),
            ("p99", "latency at 99 %, ms"),
            ("cpu", "deliveries per CPU-second"),
        )
    ),
    *(
        Measure(f"{name} {key}", f"P: {TEXTS[run.text]}{', gzip' * run.gzip}: {title}", less=less)
        for key, title, less in (
            ("wire", "bytes of a delivery", True),
            ("packet", "the same with TCP and IP headers", True),
            ("cpu", "deliveries per CPU-second", False),
            ("p50", "latency, median, ms", True),
        )
        for name, run in COMPRESSED.items()
    ),
    Measure("P minute wire", "P: JSON, each stays a minute: bytes of a delivery", less=True),
    Measure("P minute gzip wire", "P: JSON, each stays a minute, gzip", less=True),
    Measure("P first p50", "P: a stream's first event: latency, median, ms", less=True),
    Measure("P first gzip p50", "P: a stream's first event, gzip", less=True),
    # Not deliveries a second: the client, which decodes for all subscribers, would be measured.
    Measure("P burst cpu", "P: JSON back to back: deliveries per CPU-second"),
    Measure("P burst gzip cpu", "P: JSON back to back, gzip"),
    Measure("P idle memory", "P: 10,000 waiting subscribers: bytes each", less=True),
    Measure("P idle gzip memory", "P: 10,000 waiting subscribers, gzip", less=True),
]
