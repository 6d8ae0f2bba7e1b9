"""The keys of the event log in Redis: what reads cost, what they may hold, and what is damaged."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from support.broker_process import broker_processes
from support.events import MANY, contents, drafts, next_events
from support.redis_log import FOLLOWERS, IDS, LOG, QUEUE
from support.redis_server import IN_MEMORY, RedisServer, running_redis
from webapp.brokers.base import Gap
from webapp.core.events import EventId
from webapp.errors import ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.broker_process import BrokerProcess, Connect
    from webapp.brokers.base import Followed

PAGE = 64 << 10  # bytes


@pytest.fixture(name="server", params=["redis-server", "valkey-server"])
def _server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer]:
    with running_redis(request.param, tmp_path, *IN_MEMORY) as server:
        yield server


@pytest.fixture(name="connect")
def _connect(server: RedisServer) -> Iterator[Connect]:
    with broker_processes() as connect:
        yield partial(connect, server.url)


class Shared(NamedTuple):
    """A server, and a process whose follower is at the head; each test erases the event log."""

    server: RedisServer
    log: BrokerProcess
    follower: Iterator[Followed]


@pytest.fixture(name="shared", scope="module", params=["redis-server", "valkey-server"])
def _shared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shared]:
    folder = tmp_path_factory.mktemp("shared")
    with running_redis(request.param, folder, *IN_MEMORY) as server, broker_processes() as connect:
        log = connect(server.url, HISTORY_EVENTS=1000)
        yield Shared(server, log, log.follow(log.bounds().head))


def cpu_s(server: RedisServer, call: Callable[[], Any], times: int = 100) -> float:
    """The server's CPU seconds for some calls."""

    def used() -> float:
        found = server.ask("INFO", "cpu")
        return float(found["used_cpu_user"]) + float(found["used_cpu_sys"])

    before = used()
    for _ in range(times):
        call()
    return used() - before


def test_large_events_make_bounds_no_dearer(server: RedisServer, connect: Connect) -> None:
    log = connect()
    small = cpu_s(server, log.bounds)
    for _ in range(3):
        log.append(drafts("x" * 1_000_000))
    assert cpu_s(server, log.bounds) < 3 * small + 0.02


def test_a_page_of_large_events_costs_what_one_of_them_does(
    server: RedisServer, connect: Connect
) -> None:
    log = connect()
    start = log.bounds().head
    log.append(drafts("x" * 1_000_000))
    one = cpu_s(server, lambda: log.read(start, PAGE), 30)
    for _ in range(14):
        log.append(drafts("x" * 1_000_000))
    assert cpu_s(server, lambda: log.read(start, PAGE), 30) < 3 * one + 0.02


def test_the_log_is_bounded_by_bytes(server: RedisServer, connect: Connect) -> None:
    log = connect(HISTORY_BYTES="2M")
    for n in range(60):
        log.append([*drafts("x" * 100_000), *drafts("a", id=f"id {n}")])
    assert server.ask("MEMORY", "USAGE", LOG, "SAMPLES", 0) < 3_000_000
    bounds = log.bounds()
    assert log.read(bounds.floor, MANY)[-1].position == bounds.head
    assert log.position_of("id 0") is None
    for _ in range(30):
        log.append(drafts(*["y" * 2000] * 100))
    assert server.ask("MEMORY", "USAGE", LOG, "SAMPLES", 0) < 3_000_000
    log.append(drafts("z" * 1_500_000))
    assert len(log.read(log.bounds().floor, MANY)[-1].draft.data) == 1_500_000


def test_no_more_is_trimmed_than_must_be(server: RedisServer, connect: Connect) -> None:
    log = connect(HISTORY_BYTES="4M")
    for _ in range(5):
        log.append(drafts(*["a"] * 90))  # in few nodes of the stream
        for _ in range(60):
            log.append(drafts("x" * 100_000))
    assert server.ask("MEMORY", "USAGE", LOG, "SAMPLES", 0) > 3_500_000
    assert len(log.read(log.bounds().floor, MANY)) >= 38


def test_what_another_version_appends_and_trims_is_seen(
    server: RedisServer, connect: Connect
) -> None:
    log = connect()
    [first] = log.append(drafts("a"))
    text = drafts("b")[0].to_json()
    server.ask("XADD", LOG, "*", "draft", text)  # as 0.1.0 does
    assert contents(log.read(first.position, MANY)) == ["b"]
    assert log.bounds().head > first.position
    log.append(drafts("c"))
    server.ask("XTRIM", LOG, "MAXLEN", 1)
    server.ask("HDEL", IDS, "#floor")
    assert log.bounds().floor >= first.position
    assert log.count() == 1
    # One entry comes and one goes: the length stays.
    server.ask("XADD", LOG, "MAXLEN", 1, "*", "draft", text)
    server.ask("HDEL", IDS, "#floor")
    assert contents(log.read(log.bounds().floor, MANY)) == ["b"]


@pytest.mark.parametrize(
    "damage",
    [
        ("LPUSH", QUEUE, "damaged"),
        ("LPUSH", QUEUE, "notaplace some-id"),
        ("LPUSH", QUEUE, "99999999999999999999-99999999999999999999 some-id"),
        ("SET", QUEUE, "x"),
        ("HSET", IDS, "#state", "damaged"),
        ("HSET", IDS, "#state", "0 99999999999999999999-1 0 - 0"),
        ("HSET", IDS, "#floor", "99999999999999999999-1"),
        ("HSET", IDS, "#floor", "9999999999999-0"),
        ("HSET", IDS, "#floor", "damaged"),
        ("HSET", IDS, "#floor", "9" * 1000),
        ("HSET", IDS, "#ahead", "damaged"),
        ("HSET", IDS, "#ahead", "99999999999999999999999 1-1"),
        ("HSET", IDS, "#deleted", "damaged"),
        ("HSET", FOLLOWERS, "#turn", "x", "other", "x", "more", "1 99999999999999999 1"),
        ("SET", FOLLOWERS, "x"),
        ("HSET", IDS, "#sweep", "99999999999999999999999"),
    ],
)
def test_damaged_housekeeping_stops_nothing(shared: Shared, damage: tuple[str, ...]) -> None:
    server, log, follower = shared
    server.ask("FLUSHALL")
    [start] = log.append(drafts("start"))
    while not isinstance(batch := next(follower), list) or batch[-1].position != start.position:
        pass  # of the test before
    server.ask(*damage)
    log.append(drafts("a", id="id a"))
    assert contents(next_events(follower, 1)) == ["a"]
    with pytest.raises(Exception, match="other content"):
        log.append(drafts("b", id="id a"))
    floor, head = log.bounds()
    assert floor < start.position < head
    assert contents(log.read(floor, MANY)) == ["start", "a"]
    for part in range(15):
        log.append([d for n in range(100) for d in drafts("x", id=f"id {part} {n}")])
    assert server.ask("LLEN", QUEUE) <= 1300
    assert server.ask("HLEN", IDS) <= 1300


@pytest.mark.parametrize("key", [LOG, IDS])
def test_a_key_of_another_type_is_named_and_nothing_is_written(
    server: RedisServer, connect: Connect, key: str
) -> None:
    log = connect()
    log.append(drafts("a"))
    server.ask("DEL", key)
    server.ask("SET", key, "x")
    length = server.ask("XLEN", LOG) if key == IDS else 0
    for call in (lambda: log.append(drafts("b")), log.bounds):
        with pytest.raises(ServiceUnavailable, match=f"{key}.*[Dd]elete") as refused:
            call()
        assert "another database" in refused.value.remedy
    assert (server.ask("XLEN", LOG) if key == IDS else 0) == length
    server.ask("DEL", key)
    assert log.append(drafts("b"))


def test_a_log_that_is_deleted_alone_is_reported_as_lost(
    server: RedisServer, connect: Connect
) -> None:
    log = connect()
    old = [log.append(drafts(str(n)))[0] for n in range(10)]
    server.ask("DEL", LOG)
    [new] = log.append(drafts("new"))
    bounds = log.bounds()
    assert old[-1].position < bounds.floor < new.position == bounds.head
    follower = log.follow(old[3].position)
    assert next(follower) == Gap(bounds.floor, "aged")
    assert contents(next_events(follower, 1)) == ["new"]


def test_a_log_that_another_version_began_again_is_reported_as_lost(
    server: RedisServer, connect: Connect
) -> None:
    log = connect()
    old = [log.append(drafts(str(n)))[0] for n in range(10)]
    server.ask("DEL", LOG)
    server.ask("XADD", LOG, "*", "draft", drafts("new")[0].to_json())
    assert log.bounds().floor > old[-1].position


@pytest.mark.parametrize("damage", [(), ("HSET", IDS, "#sweep", "9" * 23)], ids=["", "sweep"])
def test_own_ids_whose_queue_is_lost_are_forgotten(
    server: RedisServer, connect: Connect, damage: tuple[str, ...]
) -> None:
    log = connect(HISTORY_EVENTS=100)
    for part in range(6):
        log.append([d for n in range(50) for d in drafts("x", id=f"id {part} {n}")])
    server.ask("DEL", QUEUE)
    if damage:
        server.ask(*damage)
    for _ in range(30):
        log.append(drafts(*["x"] * 10))
        log.bounds()
    assert server.ask("HLEN", IDS) < 10


def test_entries_without_text_are_passed_in_bounded_pages(
    server: RedisServer, connect: Connect
) -> None:
    log = connect()
    start = log.bounds().head
    for _ in range(20):
        server.ask("EVAL", f"for i = 1, 500 do redis.call('XADD', '{LOG}', '*', 'f', '') end", 0)
    log.append(drafts("a"))
    server.ask("CONFIG", "RESETSTAT")
    assert contents(log.read(start, PAGE)) == ["a"]
    assert server.ask("INFO", "commandstats")["cmdstat_evalsha"]["calls"] >= 4
    assert contents(log.before(EventId(2**63, 0), 1, PAGE)) == ["a"]


FILL = "redis.call('XADD', KEYS[1], '*', 'f', string.rep('x', 9000000))"
"""A script that adds an entry which is too large."""


@pytest.mark.parametrize("at", ["middle", "end"])
def test_an_entry_that_is_too_large_is_deleted_and_counted(
    server: RedisServer, connect: Connect, at: str
) -> None:
    log = connect(HISTORY_BYTES="64M")
    start = log.bounds().head
    follower = log.follow(start)
    log.append(drafts("a"))
    assert contents(next_events(follower, 1)) == ["a"]
    server.ask("EVAL", f"for i = 1, 3 do {FILL} end", 1, LOG)
    if at == "middle":
        server.ask("XADD", LOG, "*", "draft", drafts("b")[0].to_json())
    late = connect(HISTORY_BYTES="64M").follow(log.bounds().head)
    [event] = log.append(drafts("c"))
    assert contents(next_events(late, 1)) == ["c"]
    everything = ["a", "b", "c"] if at == "middle" else ["a", "c"]
    assert contents(log.read(start, MANY)) == everything
    assert contents(next_events(follower, len(everything) - 1)) == everything[1:]
    assert contents(log.before(event.position.next(0), 1, MANY)) == ["c"]
    assert server.ask("MEMORY", "USAGE", LOG, "SAMPLES", 0) < 1_000_000
    assert log.count() == server.ask("XLEN", LOG)
    assert server.ask("HGET", IDS, "#deleted") is None


def test_a_stream_with_the_last_position_is_named(server: RedisServer, connect: Connect) -> None:
    log = connect()
    server.ask("XADD", LOG, "18446744073709551615-18446744073709551615", "f", "")
    with pytest.raises(ServiceUnavailable, match=f"{LOG}.*[Dd]elete"):
        log.append(drafts("a"))
    log.bounds()
    server.ask("DEL", LOG)
    assert log.append(drafts("a"))


def test_a_damaged_floor_does_not_hide_a_log_that_began_again(
    server: RedisServer, connect: Connect
) -> None:
    log = connect()
    [old] = log.append(drafts("a"))
    server.ask("DEL", LOG)
    server.ask("HSET", IDS, "#floor", "damaged")
    server.ask("XADD", LOG, "*", "draft", drafts("b")[0].to_json())
    assert log.bounds().floor > old.position
