"""URLs, passwords, rights, and databases that the hub cannot use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gevent
import pytest

from support.doc_pages import blocks
from support.events import MANY, contents, drafts, next_events
from support.ports import free_port
from support.waiting import PATIENCE
from webapp.brokers.postgres.broker import PostgresBroker
from webapp.brokers.postgres.database import Database, ReadChannels
from webapp.errors import Misconfigured, ServiceUnavailable

if TYPE_CHECKING:
    from support.broker_process import Connect
    from support.postgres_server import PostgresServer


def test_an_option_that_does_not_exist_is_refused_at_once() -> None:
    for option in ("no_such=1", "listen=maybe", "listen="):
        with pytest.raises(Misconfigured, match="option"):
            PostgresBroker(f"postgresql://127.0.0.1/?{option}", 10, 1000, 10)


def test_only_the_hubs_log_names_the_server() -> None:
    port = free_port()
    log = PostgresBroker(f"postgres://user:secret-word@127.0.0.1:{port}/x", 10, 1000, 10)
    with pytest.raises(ServiceUnavailable) as refused:
        log.bounds()
    said = str(refused.value)
    assert f"(127.0.0.1:{port}: " in said
    assert "Connection refused" in said
    assert "secret-word" not in said
    assert str(port) not in str(refused.value.problem())
    log.close()


def test_what_is_wrong_with_a_url_is_said_without_its_password(postgres: PostgresServer) -> None:
    url = postgres.url()
    postgres.ask("CREATE ROLE guarded LOGIN PASSWORD 'right'")
    rules = postgres.folder / "data" / "pg_hba.conf"
    old = rules.read_text()
    rules.write_text(f"host all guarded 127.0.0.1/32 scram-sha-256\n{old}")
    postgres.ask("SELECT pg_reload_conf()")
    where = url.partition("@")[2]
    for user, database, words in (
        ("guarded:wr0ng", where, "refuses the user or the password"),
        ("guarded", where, "refuses the user or the password"),
        ("nobody", where, "refuses the user or the password"),
        ("hub", where.replace("/postgres", "/no_such"), "does not have the database"),
    ):
        log = PostgresBroker(f"postgresql://{user}@{database}", 10, 1000, 10)
        with pytest.raises(ServiceUnavailable, match=words) as refused:
            log.bounds()
        assert "wr0ng" not in str(refused.value)
        log.close()
    rules.write_text(old)
    postgres.ask("SELECT pg_reload_conf()")


def test_a_user_without_rights_gets_the_statement_that_helps(
    postgres: PostgresServer, url: str, connect: Connect
) -> None:
    postgres.ask('CREATE ROLE "a hub" LOGIN')
    poor = url.replace("hub@", "a%20hub@")
    log = connect(poor)
    with pytest.raises(Misconfigured) as refused:
        log.bounds()
    [documented] = blocks("deploy/event-log.md", "PostgreSQL", "sql")
    statement = documented.strip().rstrip(";").replace("hub", '"a hub"')
    assert f"run {statement}." in refused.value.remedy
    postgres.ask(statement, url=url)
    start = log.bounds().head
    log.append(drafts("a"))
    assert contents(log.read(start, MANY)) == ["a"]
    other = connect(url.replace("hub@", "stranger@"))
    postgres.ask("CREATE ROLE stranger LOGIN")
    with pytest.raises(Misconfigured, match="does not let its user"):
        other.bounds()
    postgres.ask("GRANT USAGE ON SCHEMA tidings TO stranger", url=url)
    with pytest.raises(Misconfigured, match="does not let its user"):
        other.bounds()


def test_a_database_that_is_not_in_utf_8_is_refused(postgres: PostgresServer) -> None:
    postgres.ask("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    log = PostgresBroker(postgres.url("latin"), 10, 1000, 10)
    with pytest.raises(Misconfigured, match="has the encoding LATIN1"):
        log.bounds()
    log.close()


def test_a_database_with_another_isolation_is_refused(postgres: PostgresServer) -> None:
    url = postgres.new_database()
    name = url.rpartition("/")[2]
    postgres.ask(f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
    log = PostgresBroker(url, 10, 1000, 10)
    with pytest.raises(Misconfigured, match="isolation serializable") as refused:
        log.bounds()
    postgres.ask(refused.value.remedy.removeprefix("Run ").removesuffix("."))
    assert log.bounds()
    log.close()


def test_a_unix_socket_is_a_way_to_the_server(
    postgres: PostgresServer, url: str, connect: Connect
) -> None:
    name = url.rpartition("/")[2]
    log = connect(f"postgresql:///{name}?host={postgres.folder}&port={postgres.port}&user=hub")
    follower = log.follow(log.bounds().head)
    log.append(drafts("a"))
    assert contents(next_events(follower, 1)) == ["a"]


def test_statements_are_prepared_where_no_pooler_stands_between(url: str) -> None:
    for listen, are_prepared in (("on", True), ("off", False)):
        log = PostgresBroker(f"{url}?listen={listen}", 10, 1000, 10)
        for _ in range(30):
            log.bounds()
        names = "SELECT count(*) FROM pg_prepared_statements"
        assert log.reader.call(names)[0][0] == are_prepared
        log.close()


def test_a_connection_that_is_in_use_is_closed_after_its_call(url: str) -> None:
    channels = ReadChannels(Database(url))
    call = gevent.spawn(channels.call, "SELECT pg_sleep(0.2)")
    with gevent.Timeout(PATIENCE):
        while not any(it._connection for it in channels._channels):
            gevent.sleep(0.001)
    channels.close()
    call.get(timeout=PATIENCE)
    assert not any(it._connection for it in channels._channels)
