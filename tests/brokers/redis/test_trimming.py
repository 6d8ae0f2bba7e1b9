"""The event log stays within its bounds and the server's memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.events import MANY, contents, drafts, next_events
from support.redis_log import IDS, LOG, QUEUE, STATED, each_kind, gap, published
from support.redis_server import IN_MEMORY, RedisServer
from support.waiting import until
from webapp.brokers.base import Gap
from webapp.errors import ContentTooLarge, ServiceUnavailable

if TYPE_CHECKING:
    from support.broker_process import Connect
    from support.faulty_network import FaultyNetwork
    from support.redis_server import Run


def test_an_overtaken_follower_gets_a_gap(
    server: RedisServer, network: FaultyNetwork, connect: Connect
) -> None:
    log = connect(network.url, HISTORY_EVENTS=100)
    follower = log.follow(log.bounds().head)
    published(log, "a")
    next_events(follower, 1)
    network.hang()
    other = connect(server.url, HISTORY_EVENTS=100)
    for _ in range(10):
        other.append(drafts(*map(str, range(50))))
    network.cut()
    network.resume()
    found = gap(follower)
    assert found == Gap(other.bounds().floor, "aged")
    kept = contents(other.read(found.position, MANY))
    assert contents(next_events(follower, len(kept))) == kept


def test_one_request_takes_half_of_the_log_at_most(server: RedisServer, connect: Connect) -> None:
    log = connect(server.url, HISTORY_EVENTS=100, HISTORY_BYTES=10_000)
    for too_many in (drafts(*["x"] * 51), drafts(*["x" * 3000] * 2)):
        with pytest.raises(ContentTooLarge, match="HISTORY_EVENTS"):
            log.append(too_many)
    assert len(log.append(drafts(*["x"] * 50))) == 50
    assert log.append(drafts("x" * 20_000))


def test_publishers_wait_for_the_follower_of_their_process(
    server: RedisServer, connect: Connect
) -> None:
    log = connect(server.url, HISTORY_EVENTS=1000)
    start = log.bounds().head
    follower = log.follow(start)
    calls = [log.start("append", drafts(*map(str, range(100)))) for _ in range(50)]
    for call in calls:
        call.result(STATED)
    assert len(next_events(follower, 5000)) == 5000  # none was trimmed before it was followed


@each_kind
def test_full_memory_trims_the_oldest_and_goes_on(run: Run, connect: Connect) -> None:
    server = run(*IN_MEMORY, "--maxmemory", "8mb", "--maxmemory-policy", "noeviction")
    log = connect(server.url)
    for n in range(200):
        log.append([*drafts("a", id=f"id {n}"), *drafts("x" * 100_000)])
    bounds = log.bounds()
    kept = log.read(bounds.floor, MANY)
    assert kept[-1].position == bounds.head
    assert 20 < len(kept) < 200
    assert log.position_of("id 0") is None
    assert log.position_of("id 199")


@each_kind
def test_memory_that_others_fill_refuses_and_keeps_the_log(run: Run, connect: Connect) -> None:
    server = run(*IN_MEMORY, "--maxmemory-policy", "noeviction")
    log = connect(server.url)
    start = log.bounds().head
    log.append([*drafts("a", id="id a"), *drafts("x" * 100_000)])
    server.ask("CONFIG", "SET", "maxmemory", "1mb")
    with pytest.raises(ServiceUnavailable, match="memory"):
        log.append(drafts("b", id="id b"))
    assert len(log.read(start, MANY)) == 2
    assert log.position_of("id b") is None
    server.ask("CONFIG", "SET", "maxmemory", "16mb")
    assert log.append(drafts("b", id="id b"))


def test_full_memory_is_relieved_of_what_is_too_old(run: Run, connect: Connect) -> None:
    server = run(*IN_MEMORY)
    log = connect(server.url)
    log.append(drafts(*["x" * 100_000] * 20))
    server.ask("CONFIG", "SET", "maxmemory", "2mb")
    with pytest.raises(ServiceUnavailable, match="memory"):
        log.append(drafts("a"))
    small = connect(server.url, HISTORY_EVENTS=1)
    assert contents(small.append(drafts("a"))) == ["a"]


@each_kind
def test_own_ids_are_forgotten_with_their_events(server: RedisServer, connect: Connect) -> None:
    log = connect(server.url, HISTORY_EVENTS=100)
    for part in range(40):
        log.append([d for n in range(50) for d in drafts("x", id=f"id {part} {n}")])
    kept = server.ask("XLEN", LOG)
    assert server.ask("HLEN", IDS) <= kept + 200
    assert server.ask("LLEN", QUEUE) <= kept + 200
    assert log.position_of("id 0 0") is None
    [again] = log.append(drafts("new content", id="id 0 0"))
    assert log.position_of("id 0 0") == again.position


@each_kind
def test_a_silent_log_ages_and_no_follower_loses_anything(
    server: RedisServer, connect: Connect
) -> None:
    # Its follower may be slow: only the other one drops what is old.
    log, other = connect(server.url), connect(server.url, HISTORY_AGE=1)
    follower = log.follow(log.bounds().head)
    [old] = log.append(drafts("a", id="mine"))
    next_events(follower, 1)
    until(lambda: other.bounds().floor == old.position, "aged")
    assert other.read(other.bounds().floor, MANY) == []
    other.append(drafts("b", id="mine"))  # the id is free again
    assert contents(next_events(follower, 1)) == ["b"]


@each_kind
def test_events_of_a_clock_that_was_ahead_expire(server: RedisServer, connect: Connect) -> None:
    log, text = connect(server.url, HISTORY_AGE=1), drafts("a")[0].to_json()
    server.ask("XADD", LOG, "9999999999999-5", "draft", text, "total", 200)
    [last] = log.append(drafts("b"))
    assert last.position > (9999999999999, 5)
    follower = log.follow(last.position)
    until(lambda: log.bounds().floor == last.position, "the events expired")
    assert server.ask("XLEN", LOG) == 0
    [next_one] = log.append(drafts("c"))
    assert contents(next_events(follower, 1)) == ["c"]
    until(lambda: log.bounds().floor == next_one.position, "the next one expired")


def test_a_mark_of_a_clock_that_was_ahead_is_forgotten(
    server: RedisServer, connect: Connect
) -> None:
    log = connect(server.url)
    server.ask("HSET", IDS, "#ahead", "1 1-1")
    [event] = log.append(drafts("a"))
    assert log.bounds().floor < event.position
    assert server.ask("HGET", IDS, "#ahead") is None


@each_kind
def test_entries_of_0_1_0_count_in_the_byte_bound(server: RedisServer, connect: Connect) -> None:
    text = drafts("x" * 100_000)[0].to_json()
    for _ in range(60):
        server.ask("XADD", LOG, "*", "draft", text)
    log = connect(server.url, HISTORY_BYTES="2M")
    log.bounds()
    assert server.ask("MEMORY", "USAGE", LOG, "SAMPLES", 0) < 3_000_000
    assert log.count() >= 10
    [event] = log.append(drafts("new"))
    for _ in range(60):
        server.ask("XADD", LOG, "*", "draft", text)  # while both versions run
        log.append(drafts("new"))
    assert server.ask("MEMORY", "USAGE", LOG, "SAMPLES", 0) < 5_000_000
    assert log.bounds().floor > event.position
