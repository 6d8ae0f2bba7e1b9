"""Restarts, failovers, networks that hang: nothing is lost silently."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from support.events import MANY, contents, drafts, next_events
from support.redis_log import LOG, PERSISTENT, STATED, clients, each_kind, gap, published
from support.redis_server import IN_MEMORY, RedisServer
from support.waiting import until
from webapp.brokers.base import Gap
from webapp.core.removals import Removal
from webapp.errors import ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.broker_process import Connect
    from support.faulty_network import FaultyNetwork
    from support.redis_server import Run
    from support.server import Server


def test_killed_connections_lose_nothing(server: RedisServer, connect: Connect) -> None:
    log = connect(server.url)
    follower = log.follow(log.bounds().head)
    events = []
    for n in range(5):
        events += published(log, f"{n}")
        assert server.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes") > 0
    assert contents(next_events(follower, 5)) == contents(events)


@each_kind
def test_a_restart_with_persistence_loses_nothing(run: Run, connect: Connect) -> None:
    server = run(*PERSISTENT)
    log = connect(server.url)
    start = log.bounds().head
    follower = log.follow(start)
    published(log, "a")
    assert contents(next_events(follower, 1)) == ["a"]
    server.stop()
    with pytest.raises(ServiceUnavailable, match="cannot be reached"):
        log.append(drafts("lost"))
    away = connect(server.url)
    with pytest.raises(ServiceUnavailable, match="cannot be reached"):
        away.bounds()
    late = away.follow(start)
    server.start()
    published(log, "a", "b")
    assert contents(next_events(follower, 1)) == ["b"]
    assert contents(next_events(late, 2)) == ["a", "b"]
    assert contents(log.read(start, MANY)) == ["a", "b"]


@each_kind
def test_a_restart_without_persistence_is_reported(server: RedisServer, connect: Connect) -> None:
    log = connect(server.url)
    follower = log.follow(log.bounds().head)
    [old] = published(log, "a")
    next_events(follower, 1)
    server.stop()
    server.start()
    found = gap(follower)
    assert found.reason == "aged"
    assert old.position < found.position == log.bounds().floor
    assert log.position_of("id a") is None
    published(log, "a")
    assert contents(next_events(follower, 1)) == ["a"]


def test_a_log_that_is_erased_under_its_followers_is_reported(
    server: RedisServer, connect: Connect
) -> None:
    log = connect(server.url)
    follower = log.follow(log.bounds().head)
    published(log, "a")
    next_events(follower, 1)
    server.ask("FLUSHALL")
    new = published(connect(server.url), "b")
    found = gap(follower)
    assert found.position < new[0].position
    assert contents(next_events(follower, 1)) == ["b"]


def test_a_network_that_hangs_is_given_up_and_found_again(
    server: RedisServer, network: FaultyNetwork, connect: Connect
) -> None:
    log = connect(network.url)
    start = log.bounds().head
    follower = log.follow(start)
    published(log, "a")
    network.hang()
    began = time.monotonic()
    calls = [log.start("append", drafts(x, id=f"id {x}")) for x in "bcd"]
    calls += [log.start("bounds") for _ in range(50)]  # and nobody waits for all before them
    for call in calls:
        with pytest.raises(ServiceUnavailable, match="may be in it"):
            call.result(2 * STATED)
    assert time.monotonic() - began < STATED
    published(connect(server.url), "e")  # another machine is not cut off
    network.resume()  # what was sent may arrive now
    published(log, *"bcd")
    found = contents(next_events(follower, 5))
    assert sorted(found) == ["a", "b", "c", "d", "e"]
    assert contents(log.read(start, MANY)) == found


def test_what_waits_for_a_server_that_hangs_is_bounded(
    network: FaultyNetwork, connect: Connect
) -> None:
    log = connect(network.url)
    log.append(drafts("a"))
    network.hang()
    calls = [log.start("append", drafts("x" * 1_000_000)) for _ in range(40)]
    errors = [str(call.exception(2 * STATED)) for call in calls]
    refused = [error for error in errors if "already wait" in error]
    assert 20 <= len(refused) <= 30
    network.resume()
    published(log, "b")


def test_a_pipe_publishes_nothing_twice_while_the_log_hangs(
    server: RedisServer, network: FaultyNetwork, serve: Callable[..., Server]
) -> None:
    hub, body = serve(REDIS_URL=network.url), b'{"data": 1}\n{"data": 2}\n'
    with hub.listen() as subscriber:
        hub.publish("0")
        subscriber.take(1)  # all connections are there, the follower's too
    network.hang()
    connections = len(network._sockets)
    with ThreadPoolExecutor() as pool:
        headers = {"Content-Type": "application/x-ndjson"}
        pipe = pool.submit(hub.http.post, "/events", content=body, headers=headers)
        # Or it is tried again; one connection may be the follower's, which gives up by itself.
        again = connections + 2 * 2  # both ends of two
        until(lambda: pipe.done() or len(network._sockets) >= again, "it is given up")
        network.resume()  # what was sent arrives
    answer = pipe.result()
    assert answer.status_code == 503
    assert (answer.json()["line"], answer.json()["published"]) == (1, 0)
    until(lambda: hub.http.get("/readyz").status_code == 200, "the log is back")
    until(lambda: server.ask("XLEN", "{tidings}:log") == 3, "what was sent is there")


def test_who_subscribes_during_an_outage_gets_an_unavailable_bye(
    server: RedisServer, serve: Callable[..., Server]
) -> None:
    hub, there = serve(REDIS_URL=server.url), "an id of a publisher's own"
    hub.publish("x")
    server.stop()
    with hub.listen(headers={"Accept": "text/event-stream"}, last_event_id=there) as page:
        [bye] = page.rest()  # for an EventSource any other status is the end
    assert (bye.type, bye.data, bye.id) == ("hub.bye", '{"reason": "unavailable"}', "")
    assert bye.retry
    answer = hub.http.get("/events", params={"last_event_id": there})
    assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)


def test_a_server_that_is_paused_is_waited_for(server: RedisServer, connect: Connect) -> None:
    log = connect(server.url)
    follower = log.follow(log.bounds().head)
    server.ask("CLIENT", "PAUSE", "300", "ALL")
    log.append(drafts("a"))
    server.ask("CLIENT", "PAUSE", "300", "WRITE")
    log.append(drafts("b"))
    assert contents(next_events(follower, 2)) == ["a", "b"]


@each_kind
def test_what_a_failover_loses_is_reported(
    run: Run, server: RedisServer, network: FaultyNetwork, connect: Connect
) -> None:
    replica = run(*IN_MEMORY)
    replica.ask("REPLICAOF", "127.0.0.1", str(server.port))
    log = connect(network.url)
    follower = log.follow(log.bounds().head)
    published(log, "a")
    until(lambda: replica.ask("XLEN", "{tidings}:log") == 1, "replicated")
    next_events(follower, 1)
    replica.ask("REPLICAOF", "NO", "ONE")
    lost = published(log, "b", "c")  # the replica that is to be master has not got these
    next_events(follower, 2)
    network.redirect(replica.port)
    # It is further on before anybody looks.
    new = published(connect(replica.url), "d", "e")
    assert new[-1].position > lost[-1].position
    # Nobody's connection breaks: the old master only becomes a replica.
    server.ask("REPLICAOF", "127.0.0.1", str(replica.port))
    assert gap(follower) == Gap(new[-1].position, "unknown")
    published(log, "f")
    assert contents(next_events(follower, 1)) == ["f"]
    assert log.position_of("id b") is None
    until(lambda: not clients(server), "the old master is left")
    with pytest.raises(ServiceUnavailable, match="replica"):
        connect(server.url).bounds()


@each_kind
def test_a_removal_survives_a_failover(run: Run, server: RedisServer, connect: Connect) -> None:
    replica, log = run(*IN_MEMORY), connect(server.url)
    replica.ask("REPLICAOF", "127.0.0.1", str(server.port))
    secret, _ = published(log, "secret", "other")
    removed = log.remove(Removal(secret.draft.topics[0], secret.position, secret.position))
    assert removed.number == 1
    until(
        lambda: all(
            replica.ask(*command) == server.ask(*command)
            for command in [("XRANGE", LOG, "-", "+"), ("DBSIZE",)]
        ),
        "replicated",
    )
    replica.ask("REPLICAOF", "NO", "ONE")
    log = connect(replica.url)
    assert contents(log.read(log.bounds().floor, MANY)) == ["other"]
    assert log.position_of(str(secret.position)) == secret.position
    assert "secret" not in str(replica.ask("XRANGE", LOG, "-", "+"))
