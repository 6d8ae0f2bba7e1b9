"""Several processes share one event log in Redis or Valkey."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.events import MANY, contents, drafts, next_events
from support.redis_log import STATED, clients, each_kind
from webapp.errors import Conflict

if TYPE_CHECKING:
    from support.broker_process import Connect
    from support.redis_server import RedisServer


def test_all_processes_see_one_order(server: RedisServer, connect: Connect) -> None:
    logs = [connect(server.url) for _ in range(3)]
    start = logs[0].bounds().head
    calls = [
        log.start("append", drafts(f"{i} {n}")) for n in range(100) for i, log in enumerate(logs)
    ]
    positions = sorted(event.position for call in calls for event in call.result(STATED))
    orders = [next_events(log.follow(start), len(calls)) for log in logs]
    assert [event.position for event in orders[0]] == positions
    assert contents(orders[0]) == contents(orders[1]) == contents(orders[2])
    for i in range(3):
        own = [text for text in contents(orders[0]) if text.startswith(f"{i} ")]
        assert own == [f"{i} {n}" for n in range(100)]


def test_an_own_id_raced_by_processes_is_appended_once(
    server: RedisServer, connect: Connect
) -> None:
    logs = [connect(server.url) for _ in range(4)]
    start = logs[0].bounds().head
    calls = [
        log.start("append", drafts(f"{n}", id=f"id {n}")) for n in range(50) for log in logs * 2
    ]
    positions = {event.position for call in calls for event in call.result(STATED)}
    assert len(positions) == 50
    assert sorted(map(int, contents(logs[0].read(start, MANY)))) == list(range(50))
    with pytest.raises(Conflict):
        logs[1].append(drafts("other", id="id 1"))


def test_a_process_needs_few_connections(server: RedisServer, connect: Connect) -> None:
    log = connect(server.url)
    follower = log.follow(log.bounds().head)
    calls = [log.start("append", drafts(str(n))) for n in range(100)]
    calls += [log.start("bounds") for _ in range(100)]
    for call in calls:
        call.result(STATED)
    assert len(next_events(follower, 100)) == 100
    assert len(clients(server)) <= 4


@each_kind
def test_a_server_that_forgot_the_script_is_taught_it(
    server: RedisServer, connect: Connect
) -> None:
    logs = [connect(server.url) for _ in range(2)]
    followers = [log.follow(log.bounds().head) for log in logs]
    calls = []
    for n in range(20):
        server.ask("SCRIPT", "FLUSH")
        calls += [log.start("append", drafts(f"{n}")) for log in logs]
    positions = sorted(event.position for call in calls for event in call.result(STATED))
    assert len(set(positions)) == 40
    for follower in followers:
        assert [event.position for event in next_events(follower, 40)] == positions


def test_an_entry_that_is_no_event_is_left_out(server: RedisServer, connect: Connect) -> None:
    log = connect(server.url)
    start = log.bounds().head
    follower = log.follow(start)
    for field, text in (
        ("other", "x"),
        ("draft", ""),
        ("draft", "5"),
        ("draft", '[[5],"",null,null,false,null]'),
        ("draft", '[["t"],"two\nlines",null,null,false,null]'),
        ("draft", b"\xff\xfe"),
        ("draft", "x" * 2000),
    ):
        server.ask("XADD", "{tidings}:log", "*", field, text)
    [event] = log.append(drafts("a"))
    assert contents(next_events(follower, 1)) == ["a"]
    assert contents(log.read(start, MANY)) == ["a"]
    assert contents(log.read(start, 1000)) == ["a"]  # a page of nothing is not the end
    assert contents(log.before(event.position.next(0), 10, MANY)) == ["a"]


def test_a_large_backlog_comes_in_bounded_batches(server: RedisServer, connect: Connect) -> None:
    log = connect(server.url)
    start = log.bounds().head
    log.append(drafts(*map(str, range(3000))))
    for n in range(3):
        log.append(drafts(*[f"{n}{'x' * 1_000_000}"] * 2))
    follower, count = log.follow(start), 0
    while count < 3006:
        batch = next_events(follower, 1)
        count += len(batch)
        assert len(batch) == 1 or sum(len(event.frame) for event in batch[:-1]) < 256 << 10


@pytest.mark.parametrize(
    ("count", "size", "commands"),
    [(2000, 1, 80), (400, 750, 30), (100, 4000, 15), (4, 500_000, 3)],
)
def test_a_page_is_one_call_of_few_commands(
    server: RedisServer, connect: Connect, count: int, size: int, commands: int
) -> None:
    """The server serves nobody else meanwhile."""
    log = connect(server.url)
    start = log.bounds().head
    log.append(drafts(*["x" * size] * count))
    log.topics("", "", 1)  # the index is whole now
    server.ask("CONFIG", "RESETSTAT")
    found = log.read(start, 256 << 10)
    assert len(found) == count or sum(len(it.frame) for it in found) >= 240 << 10
    stats = server.ask("INFO", "commandstats")
    assert stats["cmdstat_evalsha"]["calls"] == 1
    assert stats["cmdstat_xrange"]["calls"] <= commands
    assert sum(it["calls"] for it in stats.values()) < commands + 30
