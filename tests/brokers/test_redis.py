"""The log of many machines, and what can happen to it: Redis and Valkey, for real."""

from __future__ import annotations

import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from support.broker_process import remotes
from support.events import MANY, contents, drafts, taken
from support.faulty_network import Network
from support.ports import free_port
from support.programs import need
from support.redis_server import IN_MEMORY, LogServer, running_log
from support.waiting import until
from webapp.brokers.base import Gap
from webapp.brokers.redis.broker import RedisBroker
from webapp.errors import Conflict, Misconfigured, ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.broker_process import Remote
    from support.server import Server
    from webapp.core.events import Event

    Connect = Callable[..., Remote]
    Run = Callable[..., LogServer]

pytestmark = pytest.mark.slow

PERSISTENT = ("--save", "", "--appendonly", "yes", "--appendfsync", "always")
STATED = 10  # seconds: within these an append answers, whatever the server does


# What depends on the server, rather than on the way to it, is asked of each kind.
each_kind = pytest.mark.parametrize("run", ["redis-server", "valkey-server"], indirect=True)


@pytest.fixture(name="run")
def _run(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Run]:
    """Start servers: `run("--maxmemory", "4mb")`."""
    program = getattr(request, "param", "redis-server")
    with ExitStack() as stack:

        def run(*options: str) -> LogServer:
            folder = tmp_path / str(time.monotonic_ns())
            return stack.enter_context(running_log(program, folder, *options))

        yield run


@pytest.fixture(name="server")
def _server(run: Run) -> LogServer:
    """One that keeps all in memory."""
    return run(*IN_MEMORY)


@pytest.fixture(name="connect")
def _connect() -> Iterator[Connect]:
    with remotes() as connect:
        yield connect


@pytest.fixture(name="network")
def _network(server: LogServer) -> Iterator[Network]:
    network = Network(server.port)
    yield network
    network.close()


def published(log: Remote, *data: str) -> list[Event]:
    """Publish as soon as the log can be reached; each has its data for an id."""

    def once() -> list[Event] | None:
        try:
            events: list[Event] = log.append([d for x in data for d in drafts(x, id=f"id {x}")])
        except ServiceUnavailable:
            return None
        return events

    found: list[Event] = until(once, "published")
    return found


def gap(follower: Iterator[list[Event] | Gap]) -> Gap:
    """The gap that must be next, after events maybe."""
    while not isinstance(found := next(follower), Gap):
        pass
    return found


def clients(server: LogServer) -> list[str]:
    listed: str = server.ask("CLIENT", "LIST")
    return [line for line in listed.splitlines() if " name=tidings " in line]


def test_all_processes_see_one_order(server: LogServer, connect: Connect) -> None:
    logs = [connect(server.url) for _ in range(3)]
    start = logs[0].bounds().head
    calls = [
        log.start("append", drafts(f"{i} {n}")) for n in range(100) for i, log in enumerate(logs)
    ]
    positions = sorted(event.position for call in calls for event in call.result(STATED))
    orders = [taken(log.follow(start), len(calls)) for log in logs]
    assert [event.position for event in orders[0]] == positions
    assert contents(orders[0]) == contents(orders[1]) == contents(orders[2])
    for i in range(3):
        own = [text for text in contents(orders[0]) if text.startswith(f"{i} ")]
        assert own == [f"{i} {n}" for n in range(100)]


def test_an_own_id_raced_by_processes_is_appended_once(server: LogServer, connect: Connect) -> None:
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


def test_a_process_needs_few_connections(server: LogServer, connect: Connect) -> None:
    log = connect(server.url)
    follower = log.follow(log.bounds().head)
    calls = [log.start("append", drafts(str(n))) for n in range(100)]
    calls += [log.start("bounds") for _ in range(100)]
    for call in calls:
        call.result(STATED)
    assert len(taken(follower, 100)) == 100
    assert len(clients(server)) <= 4


def test_killed_connections_lose_nothing(server: LogServer, connect: Connect) -> None:
    log = connect(server.url)
    follower = log.follow(log.bounds().head)
    events = []
    for n in range(5):
        events += published(log, f"{n}")
        assert server.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes") > 0
    assert contents(taken(follower, 5)) == contents(events)


@each_kind
def test_a_restart_with_persistence_loses_nothing(run: Run, connect: Connect) -> None:
    server = run(*PERSISTENT)
    log = connect(server.url)
    start = log.bounds().head
    follower = log.follow(start)
    published(log, "a")
    assert contents(taken(follower, 1)) == ["a"]
    server.stop()
    with pytest.raises(ServiceUnavailable, match="cannot be reached"):
        log.append(drafts("lost"))
    away = connect(server.url)
    with pytest.raises(ServiceUnavailable, match="cannot be reached"):
        away.bounds()
    late = away.follow(start)
    server.start()
    published(log, "a", "b")
    assert contents(taken(follower, 1)) == ["b"]
    assert contents(taken(late, 2)) == ["a", "b"]
    assert contents(log.read(start, MANY)) == ["a", "b"]


@each_kind
def test_a_restart_without_persistence_is_told(server: LogServer, connect: Connect) -> None:
    log = connect(server.url)
    follower = log.follow(log.bounds().head)
    [old] = published(log, "a")
    taken(follower, 1)
    server.stop()
    server.start()
    found = gap(follower)
    assert found.reason == "aged"
    assert old.position < found.position == log.bounds().floor
    assert log.position_of("id a") is None
    published(log, "a")
    assert contents(taken(follower, 1)) == ["a"]


def test_a_log_that_is_erased_under_its_followers_is_told(
    server: LogServer, connect: Connect
) -> None:
    log = connect(server.url)
    follower = log.follow(log.bounds().head)
    published(log, "a")
    taken(follower, 1)
    server.ask("FLUSHALL")
    new = published(connect(server.url), "b")
    found = gap(follower)
    assert found.position < new[0].position
    assert contents(taken(follower, 1)) == ["b"]


def test_a_network_that_hangs_is_given_up_and_found_again(
    server: LogServer, network: Network, connect: Connect
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
    network.mend()  # what was sent may arrive now
    published(log, *"bcd")
    found = contents(taken(follower, 5))
    assert sorted(found) == ["a", "b", "c", "d", "e"]
    assert contents(log.read(start, MANY)) == found


def test_a_pipe_publishes_nothing_twice_while_the_log_hangs(
    server: LogServer, network: Network, serve: Callable[..., Server]
) -> None:
    hub, body = serve(REDIS_URL=network.url), b'{"data": 1}\n{"data": 2}\n'
    with hub.listen() as reader:
        hub.publish("0")
        reader.take(1)  # all connections are there, the follower's too
    network.hang()
    connections = len(network._sockets)
    with ThreadPoolExecutor() as pool:
        headers = {"Content-Type": "application/x-ndjson"}
        pipe = pool.submit(hub.http.post, "/events", content=body, headers=headers)
        # Or it is tried again; one connection may be the follower's, which gives up by itself.
        again = connections + 2 * 2  # both ends of two
        until(lambda: pipe.done() or len(network._sockets) >= again, "it is given up")
        network.mend()  # what was sent arrives
    answer = pipe.result()
    assert answer.status_code == 503
    assert (answer.json()["line"], answer.json()["published"]) == (1, 0)
    until(lambda: hub.http.get("/readyz").status_code == 200, "the log is back")
    until(lambda: server.ask("XLEN", "{tidings}:log") == 3, "what was sent is there")


def test_who_comes_while_the_log_is_away_is_told_to_come_back(
    server: LogServer, serve: Callable[..., Server]
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


def test_a_server_that_is_paused_is_waited_for(server: LogServer, connect: Connect) -> None:
    log = connect(server.url)
    follower = log.follow(log.bounds().head)
    server.ask("CLIENT", "PAUSE", "300", "ALL")
    log.append(drafts("a"))
    server.ask("CLIENT", "PAUSE", "300", "WRITE")
    log.append(drafts("b"))
    assert contents(taken(follower, 2)) == ["a", "b"]


@each_kind
def test_what_a_failover_loses_is_told(
    run: Run, server: LogServer, network: Network, connect: Connect
) -> None:
    replica = run(*IN_MEMORY)
    replica.ask("REPLICAOF", "127.0.0.1", str(server.port))
    log = connect(network.url)
    follower = log.follow(log.bounds().head)
    published(log, "a")
    until(lambda: replica.ask("XLEN", "{tidings}:log") == 1, "replicated")
    taken(follower, 1)
    replica.ask("REPLICAOF", "NO", "ONE")
    lost = published(log, "b", "c")  # the replica that is to be master has not got these
    taken(follower, 2)
    network.lead(replica.port)
    # It is further on before anybody looks.
    new = published(connect(replica.url), "d", "e")
    assert new[-1].position > lost[-1].position
    # Nobody's connection breaks: the old master only becomes a replica.
    server.ask("REPLICAOF", "127.0.0.1", str(replica.port))
    assert gap(follower) == Gap(new[-1].position, "unknown")
    published(log, "f")
    assert contents(taken(follower, 1)) == ["f"]
    assert log.position_of("id b") is None
    until(lambda: not clients(server), "the old master is left")
    with pytest.raises(ServiceUnavailable, match="replica"):
        connect(server.url).bounds()


def test_a_follower_that_was_overtaken_is_told(
    server: LogServer, network: Network, connect: Connect
) -> None:
    log = connect(network.url, HISTORY_EVENTS=100)
    follower = log.follow(log.bounds().head)
    published(log, "a")
    taken(follower, 1)
    network.hang()
    other = connect(server.url, HISTORY_EVENTS=100)
    for _ in range(5):
        other.append(drafts(*map(str, range(100))))
    network.cut()
    network.mend()
    found = gap(follower)
    assert found == Gap(other.bounds().floor, "aged")
    kept = contents(other.read(found.position, MANY))
    assert contents(taken(follower, len(kept))) == kept


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


def test_a_server_that_takes_no_writes_can_be_read(server: LogServer, connect: Connect) -> None:
    log = connect(server.url)
    start = log.bounds().head
    log.append(drafts("a"))
    server.ask("CONFIG", "SET", "min-replicas-to-write", "1")
    with pytest.raises(ServiceUnavailable, match="NOREPLICAS"):
        log.append(drafts("b"))
    assert contents(taken(log.follow(start), 1)) == contents(log.read(start, MANY)) == ["a"]


def test_an_option_that_does_not_exist_is_refused_at_once() -> None:
    for option in ("ssl_cert_reqs=some", "no_such=1", "db=x"):
        with pytest.raises(Misconfigured, match="option"):
            RedisBroker(f"rediss://127.0.0.1/?{option}", 10, 1000, 10)


def test_a_wrong_password_is_said_without_it(run: Run, connect: Connect) -> None:
    server = run(*IN_MEMORY, "--requirepass", "the right one")
    for url in (server.url, server.url.replace("redis://", "redis://:wr0ng@")):
        log = connect(url)
        for call in (log.start("bounds"), log.start("append", drafts("a"))):
            with pytest.raises(ServiceUnavailable, match="password") as refused:
                call.result(STATED)
            assert "wr0ng" not in str(refused.value)
    log = connect(server.url.replace("redis://", "redis://:the%20right%20one@"))
    assert log.append(drafts("a"))


@each_kind
def test_a_server_that_forgot_the_script_is_taught_it(server: LogServer, connect: Connect) -> None:
    logs = [connect(server.url) for _ in range(2)]
    followers = [log.follow(log.bounds().head) for log in logs]
    calls = []
    for n in range(20):
        server.ask("SCRIPT", "FLUSH")
        calls += [log.start("append", drafts(f"{n}")) for log in logs]
    positions = sorted(event.position for call in calls for event in call.result(STATED))
    assert len(set(positions)) == 40
    for follower in followers:
        assert [event.position for event in taken(follower, 40)] == positions


@each_kind
def test_own_ids_are_forgotten_with_their_events(server: LogServer, connect: Connect) -> None:
    log = connect(server.url, HISTORY_EVENTS=100)
    for part in range(20):
        log.append([d for n in range(100) for d in drafts("x", id=f"id {part} {n}")])
    kept = server.ask("XLEN", "{tidings}:log")
    assert server.ask("HLEN", "{tidings}:ids") <= kept + 200
    assert server.ask("LLEN", "{tidings}:queue") <= kept + 200
    assert log.position_of("id 0 0") is None
    [again] = log.append(drafts("new content", id="id 0 0"))
    assert log.position_of("id 0 0") == again.position


@each_kind
def test_a_silent_log_ages_and_no_follower_loses_anything(
    server: LogServer, connect: Connect
) -> None:
    # Its follower may be slow: only the other one drops what is old.
    log, other = connect(server.url), connect(server.url, HISTORY_AGE=1)
    follower = log.follow(log.bounds().head)
    [old] = log.append(drafts("a", id="mine"))
    taken(follower, 1)
    until(lambda: other.bounds().floor == old.position, "aged")
    assert other.read(other.bounds().floor, MANY) == []
    other.append(drafts("b", id="mine"))  # the id is free again
    assert contents(taken(follower, 1)) == ["b"]


def test_an_entry_that_is_no_event_is_left_out(server: LogServer, connect: Connect) -> None:
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
    assert contents(taken(follower, 1)) == ["a"]
    assert contents(log.read(start, MANY)) == ["a"]
    assert contents(log.read(start, 1000)) == ["a"]  # a page of nothing is not the end
    assert contents(log.before(event.position.next(0), 10, MANY)) == ["a"]


def test_a_large_backlog_comes_in_bounded_batches(server: LogServer, connect: Connect) -> None:
    log = connect(server.url)
    start = log.bounds().head
    log.append(drafts(*map(str, range(3000))))
    for n in range(3):
        log.append(drafts(*[f"{n}{'x' * 1_000_000}"] * 2))
    follower, count = log.follow(start), 0
    while count < 3006:
        batch = taken(follower, 1)
        count += len(batch)
        assert len(batch) == 1 or sum(len(event.frame) for event in batch[:-1]) < 256 << 10


def test_a_server_behind_tls_is_reached(tmp_path: Path, run: Run, connect: Connect) -> None:
    names = ["-subj", "/CN=localhost", "-keyout", "key.pem", "-out", "cert.pem"]
    request = [need("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", *names]
    subprocess.run(request, cwd=tmp_path, check=True, capture_output=True)
    key, cert = str(tmp_path / "key.pem"), str(tmp_path / "cert.pem")
    tls = ["--tls-cert-file", cert, "--tls-key-file", key, "--tls-auth-clients", "no"]
    port = free_port()
    run(*IN_MEMORY, *tls, "--tls-port", str(port))
    url = f"rediss://127.0.0.1:{port}/0"
    log = connect(f"{url}?ssl_cert_reqs=none")
    follower = log.follow(log.bounds().head)
    log.append(drafts("a"))
    assert contents(taken(follower, 1)) == ["a"]
    with pytest.raises(
        ServiceUnavailable, match="ssl_cert_reqs=none"
    ):  # nobody knows who signed it
        connect(url).bounds()
