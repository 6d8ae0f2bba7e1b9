"""TLS to the server, as libpq has it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from support.certificate import certificate
from support.events import contents, drafts, next_events
from support.postgres_server import NOT_DURABLE, running_postgres
from webapp.errors import ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.broker_process import Connect
    from support.postgres_server import PostgresServer


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    certificate(folder)
    return folder


@pytest.fixture(name="server", scope="module")
def _server(folder: Path) -> Iterator[PostgresServer]:
    """A server with a certificate for `localhost`, which refuses connections without TLS."""
    with running_postgres(*NOT_DURABLE) as server:
        for name in ("cert.pem", "key.pem"):
            copy = server.folder / "data" / name
            shutil.copy(folder / name, copy)
            copy.chmod(0o600)
            if server.as_user:
                shutil.chown(copy, "postgres", "postgres")
        server.ask("ALTER SYSTEM SET ssl_cert_file = 'cert.pem'")
        server.ask("ALTER SYSTEM SET ssl_key_file = 'key.pem'")
        server.ask("ALTER SYSTEM SET ssl = on")
        server.ask("CREATE ROLE app LOGIN; GRANT CREATE ON DATABASE postgres TO app")
        server.add_rule("host all app 127.0.0.1/32 reject")
        server.add_rule("hostssl all app 127.0.0.1/32 trust")
        yield server


def url_of(server: PostgresServer, options: str, host: str = "localhost") -> str:
    return f"{server.url(user='app').replace('127.0.0.1', host)}?{options}"


@pytest.mark.parametrize("options", ["", "sslmode=require", "sslmode=verify-full&sslrootcert="])
def test_events_go_over_tls(
    server: PostgresServer, folder: Path, connect: Connect, options: str
) -> None:
    log = connect(url_of(server, options.replace("rootcert=", f"rootcert={folder}/cert.pem")))
    follower = log.follow(log.bounds().head)
    log.append(drafts("a"))
    assert contents(next_events(follower, 1)) == ["a"]
    query = """SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
      WHERE usename = 'app'"""
    assert server.ask(query) == [(True,)]


@pytest.mark.parametrize(
    ("options", "host", "words"),
    [
        ("sslmode=disable", "localhost", "over TLS only"),
        ("sslmode=verify-full&sslrootcert=cert.pem", "127.0.0.1", "or of another host"),
        ("sslmode=verify-full&sslrootcert=other.pem", "localhost", "or of another host"),
        ("sslmode=verify-full&sslrootcert=none.pem", "localhost", "There are no certificates"),
        ("sslmode=verify-full", "localhost", "There are no certificates"),
    ],
)
def test_what_is_wrong_with_tls_is_said(
    server: PostgresServer, folder: Path, connect: Connect, options: str, host: str, words: str
) -> None:
    other = folder / "others"
    other.mkdir(exist_ok=True)
    certificate(other)[0].rename(folder / "other.pem")
    options = options.replace("rootcert=", f"rootcert={folder}/")
    with pytest.raises(ServiceUnavailable, match=words) as refused:
        connect(url_of(server, options, host)).bounds()
    assert "TIDINGS_BROKER_URL" in refused.value.remedy
