"""Through PgBouncer in transaction mode, where a session is another one at each statement."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

from support.events import MANY, all_events, contents, drafts, next_events
from support.ports import free_port
from support.programs import need
from support.waiting import PATIENCE, until
from webapp.brokers.postgres.database import Channel, Database
from webapp.brokers.postgres.notifications import Notifications

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

    from support.broker_process import Connect
    from support.postgres_server import PostgresServer


@contextmanager
def pooled(server: PostgresServer, *, mode: str) -> Iterator[str]:
    """Run a pooler, and yield the URL at which it is."""
    port, log = free_port(), server.folder / f"{mode}.log"
    (server.folder / "users.txt").write_text('"hub" ""\n')
    settings = {
        "listen_addr": "127.0.0.1",
        "listen_port": port,
        "unix_socket_dir": "",
        "auth_type": "trust",
        "auth_file": server.folder / "users.txt",
        "pool_mode": mode,
        "default_pool_size": 3,
        "logfile": log,
    }
    lines = "\n".join(f"{name} = {value}" for name, value in settings.items())
    where = f"host=127.0.0.1 port={server.port}"
    configuration = server.folder / "pooler.ini"
    configuration.write_text(f"[databases]\n* = {where}\n[pgbouncer]\n{lines}\n")
    program = shutil.which("pgbouncer", path="/usr/sbin") or need("pgbouncer")  # not in PATH
    process = subprocess.Popen(
        [*server.as_user, program, "-q", str(configuration)], cwd=server.folder
    )
    try:
        until(lambda: log.exists() and "process up" in log.read_text(), "the pooler is up")
        yield f"postgresql://hub@127.0.0.1:{port}/postgres"
    finally:
        process.terminate()
        process.wait(PATIENCE)


def test_everything_works_by_polling_and_that_is_noticed(
    postgres: PostgresServer,
    url: str,
    connect: Connect,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pooled(postgres, mode="transaction") as pooler:
        logs = [connect(pooler) for _ in range(3)]
        start = logs[0].bounds().head
        followers = [log.follow(start) for log in logs]
        for n in range(10):
            logs[n % 3].append(drafts(f"{n}", id=f"own {n}"))
            assert contents(next_events(followers[(n + 1) % 3], 1))
        assert contents(all_events(logs[0])) == [f"{n}" for n in range(10)]
        postgres.ask("SELECT tidings.publish('t', 'of a transaction')", url=url)
        assert contents(next_events(connect(pooler).follow(logs[0].bounds().floor), 11))[10:]
        for log in logs:
            assert log.position_of("own 3")
        assert logs[0].heartbeat({"one": "about one"}) is False
        until(lambda: logs[1].subscribers() == [("one", "about one")], "it is listed")
        for log in logs:
            log.stop()
        database = Database(pooler)
        channel = Channel(database)
        assert Notifications(database, channel, "tidings").prepare()
        assert database.listens is False
        assert "A pooler stands before the event log's server" in caplog.text
        channel.close()


def test_a_pooler_that_keeps_sessions_can_be_told_to_the_hub(
    postgres: PostgresServer, url: str, connect: Connect
) -> None:
    direct = connect(url)
    with pooled(postgres, mode="session") as pooler:
        log = connect(f"{pooler}?listen=on")
        start = log.bounds().head
        follower = log.follow(start)
        for n in range(5):
            direct.append(drafts(f"{n}"))
            assert contents(next_events(follower, 1)) == [f"{n}"]
        assert len(log.read(start, MANY)) == 5
        log.stop()
