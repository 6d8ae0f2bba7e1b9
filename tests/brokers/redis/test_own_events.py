"""Each process delivers its own events and those of others, once and in order, whatever fails."""

from __future__ import annotations

import signal
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from support.events import all_events, drafts, next_events
from support.faulty_network import FaultyNetwork
from support.redis_log import PERSISTENT, STATED, gap, published
from webapp.errors import ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from support.broker_process import Connect
    from support.redis_server import RedisServer, Run
    from webapp.core.events import Draft, Event, EventId


@pytest.fixture(name="server")
def _server(run: Run) -> RedisServer:
    """A server that loses nothing in a restart."""
    return run(*PERSISTENT)


@pytest.fixture(name="networks")
def _networks(server: RedisServer) -> Iterator[list[FaultyNetwork]]:
    networks = [FaultyNetwork(server.port) for _ in range(2)]
    yield networks
    for network in networks:
        network.close()


def cut(_: RedisServer, network: FaultyNetwork) -> None:
    network.cut()


def kill_clients(server: RedisServer, _: FaultyNetwork) -> None:
    server.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


def lose_answers(server: RedisServer, network: FaultyNetwork) -> None:
    """Close the connections after the server has read, and before an answer arrives."""
    network.hang()
    kill_clients(server, network)
    network.cut()
    network.resume()


def restart(server: RedisServer, _: FaultyNetwork) -> None:
    server.restart()


def acknowledged(calls: list[Future[list[Event]]]) -> Iterator[Event]:
    """The events of the appends that were answered. Of the others nobody knows."""
    for call in calls:
        with suppress(ServiceUnavailable):
            yield from call.result(STATED)


def comparable(events: list[Event]) -> list[tuple[EventId, Draft]]:
    return [(event.position, event.draft) for event in events]


def test_two_processes_deliver_the_same_when_appends_fail(
    server: RedisServer, networks: list[FaultyNetwork], connect: Connect
) -> None:
    logs = [connect(network.url) for network in networks]
    start = logs[0].bounds().head
    followers = [log.follow(start) for log in logs]
    answered: list[Event] = []
    for part, fail in enumerate([cut, kill_clients, lose_answers, restart]):
        sizes = [41 if n % 10 == 0 else 1 for n in range(20)]
        calls = [
            log.start("append", drafts(*[f"{part} {n} {i}"] * size))
            for n, size in enumerate(sizes)
            for i, log in enumerate(logs)
        ]
        calls[0].exception(STATED)
        fail(server, networks[part % 2])
        answered += acknowledged(calls)
    for i, log in enumerate(logs):
        published(log, f"last {i}")
    stored = comparable([event for event in all_events(logs[0]) if event.position > start])
    for follower in followers:
        assert comparable(next_events(follower, len(stored))) == stored
    assert set(comparable(answered)) <= set(stored)
    assert answered


def test_a_process_that_was_stopped_delivers_all_that_follows_its_gap(
    server: RedisServer, connect: Connect
) -> None:
    one, other = (connect(server.url, HISTORY_EVENTS=200) for _ in range(2))
    follower = one.follow(one.bounds().head)
    calls = [one.start("append", drafts(f"own {n}")) for n in range(50)]
    calls[0].exception(STATED)
    one.process.send_signal(signal.SIGSTOP)
    for _ in range(20):
        other.append(drafts(*["x"] * 100))
    one.process.send_signal(signal.SIGCONT)
    assert list(acknowledged(calls))
    published(one, "last")
    floor = gap(follower).position
    stored = comparable([event for event in all_events(one) if event.position > floor])
    assert comparable(next_events(follower, len(stored))) == stored
