"""A hub of two workers whose server fails in every way that servers fail.

In each: subscribers stay, publishers get 503 with a remedy, and afterwards every event is there
once, in one order for all.
"""

from __future__ import annotations

import secrets
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

import psycopg
import pytest

from support.faulty_network import FaultyNetwork
from support.ports import free_port
from support.postgres_server import NOT_DURABLE, running_postgres
from support.server import serving
from support.small_disk import small_disk
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.postgres_server import PostgresServer
    from support.server import Server
    from support.small_disk import SmallDisk
    from support.stream import Stream

_DISK_BYTES = 24 << 20
_EVENT_BYTES = 40_000
_END_OF_HUB = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'"


class World(NamedTuple):
    """A hub, its server, and what lies between and below."""

    hub: Server
    server: PostgresServer
    network: FaultyNetwork
    disk: SmallDisk


@pytest.fixture(name="world", scope="module")
def _world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with ExitStack() as stack:
        disk = stack.enter_context(small_disk(_DISK_BYTES, "postgres"))
        server = stack.enter_context(running_postgres(*NOT_DURABLE, prefix=disk.prefix))
        server.ask("CREATE ROLE app LOGIN PASSWORD 'right'")
        server.add_rule("host all app 127.0.0.1/32 scram-sha-256")
        server.ask(f"CREATE TABLESPACE small LOCATION '{disk.folder}'")
        server.ask("CREATE DATABASE app OWNER app TABLESPACE small")
        network = FaultyNetwork(server.port)
        stack.callback(network.close)
        url = f"postgresql://app:right@127.0.0.1:{network.port}/app"
        log = tmp_path_factory.mktemp("hub") / "log"
        settings = {"TIDINGS_BROKER_URL": url}
        hub = stack.enter_context(serving(["-w", "2", "-b", "127.0.0.1:0"], settings, log))
        yield World(hub, server, network, disk)
        if server.process.poll() is None:
            hub.stop()  # before its server


@contextmanager
def killed(world: World) -> Iterator[None]:
    world.server.kill()
    yield
    world.server.start()


@contextmanager
def stopped(world: World) -> Iterator[None]:
    world.server.stop(signal.SIGINT)
    yield
    world.server.start()


@contextmanager
def frozen(world: World) -> Iterator[None]:
    world.server.freeze()
    yield
    world.server.thaw()


@contextmanager
def behind_a_proxy_that_hangs(world: World) -> Iterator[None]:
    world.network.hang()
    yield
    world.network.resume()


@contextmanager
def cut_off(world: World) -> Iterator[None]:
    world.network.redirect(free_port())
    world.network.cut()
    yield
    world.network.redirect(world.server.port)


@contextmanager
def with_another_password(world: World) -> Iterator[None]:
    world.server.ask("ALTER ROLE app PASSWORD 'other'")
    world.server.ask(_END_OF_HUB)
    yield
    world.server.ask("ALTER ROLE app PASSWORD 'right'")


@contextmanager
def read_only(world: World) -> Iterator[None]:
    world.server.ask("ALTER DATABASE app SET default_transaction_read_only = on")
    world.server.ask(_END_OF_HUB)
    yield
    world.server.ask("ALTER DATABASE app SET default_transaction_read_only = off")


@contextmanager
def out_of_connections(world: World) -> Iterator[None]:
    with ExitStack() as others, psycopg.connect(world.server.url(), autocommit=True) as admin:

        def take_all() -> bool:
            """The hub's connections are ended, and others take their places before it does."""
            admin.execute(_END_OF_HUB)
            with suppress(psycopg.OperationalError):
                while True:
                    others.enter_context(psycopg.connect(world.server.url()))
            query = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'"
            return admin.execute(query).fetchone() == (0,)

        until(take_all, "others have all connections")
        yield


@contextmanager
def out_of_disk(world: World) -> Iterator[None]:
    world.disk.fill(except_bytes=5 * _EVENT_BYTES)
    yield
    world.disk.empty()


Fault = Callable[[World], AbstractContextManager[None]]
FAULTS: dict[Fault, str] = {
    killed: "The event log cannot be reached.",
    stopped: "The event log cannot be reached.",
    frozen: "The event log does not answer.",
    behind_a_proxy_that_hangs: "The event log does not answer.",
    cut_off: "The event log cannot be reached.",
    with_another_password: "The event log's server refuses the user or the password.",
    read_only: "The event log's server takes no writes",
    out_of_connections: "The event log's server has as many connections as it permits.",
    out_of_disk: "The disk of the event log's server is full.",
}


class Publisher:
    """Publishes to a topic, each event under an own id, and again what was not answered."""

    def __init__(self, hub: Server, topic: str) -> None:
        self.sent: list[str] = []
        self.answered: list[str] = []
        self._hub, self._topic = hub, topic
        self._fill = secrets.token_hex(_EVENT_BYTES // 2)  # random: the server compresses

    def publish(self) -> str:
        """Publish an event. Returns "", or what was wrong."""
        self.sent.append(f"{len(self.sent)}")
        return self._send(self.sent[-1])

    def publish_again(self) -> bool:
        """Publish what was not answered. Returns whether all is."""
        return not any(self._send(it) for it in self.sent if it not in self.answered)

    def _send(self, name: str) -> str:
        event = {"id": f"{self._topic} {name}", "data": f"{name} {self._fill}"}
        answer = self._hub.http.post("/events", params={"topic": self._topic}, data=event)
        if answer.status_code == 200:
            self.answered.append(name)
            return ""
        problem = answer.json()
        assert (answer.status_code, bool(problem["remedy"])) == (503, True), answer.text
        return str(problem["detail"])


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_subscribers_stay_and_every_event_arrives_once(world: World, fault: Fault) -> None:
    hub, topic = world.hub, fault.__name__
    publisher = Publisher(hub, topic)
    with ExitStack() as stack:
        streams = [stack.enter_context(hub.listen(topic=topic)) for _ in range(6)]
        until(lambda: not publisher.publish(), "an event is published")
        with fault(world):
            until(lambda: publisher.publish().startswith(FAULTS[fault]), "publishing is refused")
            before = list(publisher.answered)
        until(publisher.publish_again, "all is published")
        seen = [names(stream, len(publisher.sent)) for stream in streams]
        assert sorted(seen[0], key=int) == publisher.sent
        assert seen == seen[:1] * 6
        assert [it for it in seen[0] if it in before] == before
        assert not hub.left(topic)


def names(stream: Stream, number: int) -> list[str]:
    return [data.split()[0] for data in stream.take(number)]


def test_each_outage_was_said_once_by_each_worker_and_its_end_too(world: World) -> None:
    def said(what: str) -> int:
        return world.hub.log.count(f"the event log is {what}")

    until(lambda: said("available again") == said("unavailable: "), "each outage has ended")
    assert said("unavailable: ") >= len(FAULTS) - 2  # two faults disturb no follower
    assert "Traceback" not in world.hub.log
