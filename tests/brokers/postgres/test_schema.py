"""The schema: who makes it, who brings it up to date, and who refuses it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from support.events import MANY, contents, drafts, next_events
from support.project import ROOT
from webapp.brokers.postgres import schema
from webapp.brokers.postgres.broker import PostgresBroker
from webapp.core.events import Draft
from webapp.errors import Misconfigured, ServiceUnavailable

if TYPE_CHECKING:
    from support.broker_process import Connect
    from support.postgres_server import PostgresServer

SQL_OF_VERSIONS = {2: "49f075e0f56c9006"}
# What version 1 did not have.
TO_VERSION_1 = """
DROP INDEX tidings.log_expires;
ALTER TABLE tidings.log DROP COLUMN expires;
DROP TABLE tidings.removal, tidings.turn;
DROP INDEX tidings.head_position;
ALTER TABLE tidings.head ADD PRIMARY KEY (one);
DROP TABLE tidings.outbox, tidings.commits CASCADE;
DROP TYPE tidings.outbox_rest CASCADE;
DROP SEQUENCE tidings.outbox_number;
CREATE TABLE tidings.outbox (
  xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
  number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  topics text[] NOT NULL,
  own text COLLATE "C",
  private boolean NOT NULL,
  ended boolean NOT NULL,
  event text NOT NULL
);
CREATE INDEX outbox_xid ON tidings.outbox (xid);
CREATE TABLE tidings.commits (
  xid xid8 PRIMARY KEY DEFAULT pg_current_xact_id(), number bigint GENERATED ALWAYS AS IDENTITY
);
CREATE FUNCTION tidings.append_taken(taken tidings.outbox[]) RETURNS bigint[]
  LANGUAGE sql AS 'SELECT ARRAY[1]';
ALTER TABLE tidings.relay ADD COLUMN polled_until timestamptz NOT NULL DEFAULT '-infinity';
DROP SEQUENCE tidings.relay_waits_until, tidings.topics_ended;
UPDATE tidings.version SET number = 1;
DROP FUNCTION tidings.read_after;
CREATE FUNCTION tidings.read_after(start bigint, max_bytes bigint)
  RETURNS TABLE (place bigint, text text) LANGUAGE sql AS 'SELECT 1, ''of version 1''';
"""
# Two transactions that had published; the second one was committed first.
WAITING_IN_VERSION_1 = """
INSERT INTO tidings.outbox (xid, topics, private, ended, event) VALUES
  ('3', '{t}', false, false, '[["t"],"d",null,null,false,null]'),
  ('4', '{t}', false, false, '[["t"],"c",null,null,false,null]');
INSERT INTO tidings.commits (xid) VALUES ('4'), ('3');
"""
COLUMNS = """
SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns
WHERE table_schema = 'tidings' ORDER BY table_name, ordinal_position
"""
INDEXES = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'tidings' ORDER BY indexdef"
FUNCTIONS = """
SELECT oid::regprocedure::text, md5(prosrc) FROM pg_proc
WHERE pronamespace = 'tidings'::regnamespace ORDER BY 1
"""


def test_each_change_of_the_sql_has_a_version_of_its_own() -> None:
    files = sorted((ROOT / "webapp" / "brokers" / "postgres").glob("*.sql"))
    found = sha256(b"".join(it.read_bytes() for it in files)).hexdigest()[:16]
    assert {schema.VERSION: found} == SQL_OF_VERSIONS, (
        "The SQL has changed. If a version with the old SQL was released, raise schema.VERSION and"
        f" write the file upgrade_N.sql. Then set SQL_OF_VERSIONS to {{VERSION: {found!r}}}."
    )


def test_hubs_that_start_at_once_bring_an_older_schema_up_to_date(
    postgres: PostgresServer, url: str, connect: Connect
) -> None:
    def facts() -> list[object]:
        return [postgres.ask(it, url=url) for it in (COLUMNS, INDEXES, FUNCTIONS)]

    before = connect(url)
    start = before.bounds().head
    before.append(drafts("a", "b"))
    before.stop()
    made = facts()
    postgres.ask(
        f"{TO_VERSION_1}; GRANT EXECUTE ON FUNCTION tidings.publish TO pg_monitor", url=url
    )
    postgres.ask(WAITING_IN_VERSION_1, url=url)
    assert facts() != made
    logs = [connect(url) for _ in range(4)]
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda log: contents(log.read(start, MANY)), logs))
    assert found == [["a", "b"]] * 4
    assert facts() == made
    assert postgres.ask("SELECT number FROM tidings.version", url=url) == [(schema.VERSION,)]
    allowed = "SELECT has_function_privilege('pg_monitor', oid, 'EXECUTE') FROM pg_proc WHERE"
    assert postgres.ask(f"{allowed} proname = 'publish'", url=url) == [(True,)]
    follower = logs[0].follow(logs[0].bounds().head)
    postgres.ask("SELECT tidings.publish('t', 'e', ttl => '1 hour')", url=url)
    *waiting, event = next_events(follower, 3)
    assert contents(waiting) == ["c", "d"]
    assert event.draft.ttl == 3_600_000


def test_a_function_that_avoids_a_plan_neither_compiles_nor_plans_at_each_call(
    postgres: PostgresServer, url: str, connect: Connect
) -> None:
    # The cost of a plan that is avoided is so high that the server would compile it at each call,
    # or plan it again.
    connect(url).bounds()
    settings = """
        SELECT proname FROM pg_proc WHERE pronamespace = 'tidings'::regnamespace
        AND 'enable_seqscan=off' = ANY (proconfig)
        AND NOT proconfig @> '{jit=off, plan_cache_mode=force_generic_plan}'
    """
    assert postgres.ask(settings, url=url) == []


def test_a_transaction_that_holds_the_tables_does_not_make_an_upgrade_wait(
    postgres: PostgresServer, url: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psycopg

    connect(url).bounds()
    postgres.ask(TO_VERSION_1, url=url)
    monkeypatch.setattr(schema, "_LOCK_TIMEOUT", "SET LOCAL lock_timeout = '10ms'")
    log = PostgresBroker(url, 10, 1000, 10)
    with psycopg.connect(url) as app:
        app.execute("LOCK TABLE tidings.outbox IN ROW EXCLUSIVE MODE")
        with pytest.raises(ServiceUnavailable, match="which have to be upgraded"):
            log.bounds()
    assert log.bounds()
    log.close()


def test_a_schema_of_a_newer_hub_is_refused(
    postgres: PostgresServer, url: str, connect: Connect
) -> None:
    connect(url).bounds()
    newer = f"UPDATE tidings.version SET number = {schema.VERSION + 1}"
    postgres.ask(newer, url=url)
    with pytest.raises(Misconfigured, match="made by a newer version of Tidings"):
        connect(url).bounds()


def test_a_hub_that_runs_while_a_newer_one_takes_over_refuses_too(
    postgres: PostgresServer, url: str, connect: Connect
) -> None:
    log = connect(url)
    start = log.bounds().head
    log.append([Draft(topics=("t",))])
    postgres.ask(f"UPDATE tidings.version SET number = {schema.VERSION + 1}", url=url)
    postgres.ask("DROP FUNCTION tidings.read_after; DROP FUNCTION tidings.append", url=url)
    for _ in range(2):  # the first ones find that functions are gone
        with pytest.raises(ServiceUnavailable):
            log.read(start, MANY)
        with pytest.raises(ServiceUnavailable) as refused:
            log.append([Draft(topics=("t",))])
    assert "made by a newer version of Tidings" in refused.value.detail


def test_hubs_that_start_at_once_make_the_schema_once(url: str, connect: Connect) -> None:
    logs = [connect(url) for _ in range(4)]
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda log: log.bounds(), logs))
    assert len(set(found)) == 1
