"""The tables do not grow while events come and go, and what would make them grow is said."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import psycopg

from support.events import drafts
from support.waiting import until
from webapp.brokers.postgres.database import Channel, Database
from webapp.brokers.postgres.snapshot_watch import SnapshotWatch

if TYPE_CHECKING:
    import pytest

    from support.broker_process import BrokerProcess, Connect
    from support.postgres_server import PostgresServer

_SIZES = """
SELECT relname, pg_total_relation_size(oid)::int FROM pg_class
WHERE relnamespace = 'tidings'::regnamespace AND relkind = 'r'
"""
_VACUUMED = "SELECT vacuum_count FROM pg_stat_user_tables WHERE relname = 'log'"
_DEAD = "SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'log'"
_DELETED = "SELECT n_tup_del FROM pg_stat_user_tables WHERE relname = 'hit'"
_READ = "SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'hit_pkey'"


def test_the_tables_do_not_grow_while_events_are_replaced(
    postgres: PostgresServer, url: str, connect: Connect
) -> None:
    def ask(query: str) -> int:
        return int(postgres.ask(query, url=url)[0][0])

    def is_vacuumed_since(count: int) -> bool:
        return ask(_VACUUMED) > count

    def append_10_000(log: BrokerProcess, n: int) -> None:
        for part in range(10):
            texts = [f"{n} {part} {it}" for it in range(1000)]
            log.append([it for text in texts for it in drafts("x" * 100, id=text)])

    other = postgres.new_database()
    append_10_000(connect(other, HISTORY_EVENTS=100_000), 0)
    untrimmed = dict(postgres.ask(_SIZES, url=other))

    log = connect(url, HISTORY_EVENTS=2000)
    log.bounds()
    for n in range(3):
        vacuumed = ask(_VACUUMED)
        append_10_000(log, n)
        until(lambda: log.count() <= 2200, "it is trimmed")
        until(partial(is_vacuumed_since, vacuumed), "it is vacuumed")
        # The first vacuum may have come before the last events were deleted.
        until(lambda: ask(_DEAD) <= 10_000, "few rows are dead")
    # How much of a round is dead when the vacuum comes depends on how fast the machine is.
    sizes = dict(postgres.ask(_SIZES, url=url))
    grown = {name for name, size in sizes.items() if size > 2.5 * untrimmed[name] + 32768}
    assert not grown, (sizes, untrimmed)


def test_a_step_of_the_trim_reads_what_it_deletes_and_not_the_whole_topic(
    postgres: PostgresServer, url: str, connect: Connect
) -> None:
    log = connect(url, HISTORY_EVENTS=10_000)
    for _ in range(5):
        log.append(drafts(*["x"] * 1000))
    log.stop()
    assert postgres.ask("SELECT tidings.trim(1000, 1000000, 0)", url=url) == [(500,)]
    until(lambda: postgres.ask(_DELETED, url=url) == [(500,)], "it is counted")
    [(read,)] = postgres.ask(_READ, url=url)
    assert read < 50_000  # not 500 times 5,000


def test_an_old_transaction_is_warned_of_with_its_process_and_the_remedy(
    postgres: PostgresServer,
    url: str,
    connect: Connect,
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = connect(url)
    log.append(drafts("a"))
    postgres.ask("CREATE ROLE poor LOGIN")
    ours, theirs = Channel(Database(url)), Channel(Database(url.replace("hub@", "poor@")))
    postgres.ask("GRANT USAGE ON SCHEMA tidings TO poor; GRANT SELECT ON tidings.version TO poor")
    watch, may_not_see = SnapshotWatch(long_s=0), SnapshotWatch(long_s=0)
    watch.look(ours)
    assert not caplog.messages
    with psycopg.connect(url) as holder:
        holder.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        holder.execute("SELECT 1")
        SnapshotWatch().look(ours)
        assert not caplog.messages  # it is not old
        for look, channel in ((watch, ours), (may_not_see, theirs)):
            look.look(channel)
            [said] = caplog.messages
            pid = holder.info.backend_pid
            assert f"(process {pid}, hub, " in said
            assert f"SELECT pg_terminate_backend({pid})" in said
            caplog.clear()
    watch.look(ours)
    assert not caplog.messages
    ours.close()
    theirs.close()


def test_a_snapshot_that_stays_open_does_not_make_appends_read_more(
    url: str, connect: Connect
) -> None:

    connect(url).bounds()
    append = (
        "tidings.append('{1}', ARRAY['[[\"t\"],\"d\",null,null,false,null]'],"
        " NULL, NULL, NULL, NULL, '{1}', '{t}', '{f}')"
    )

    def blocks_of_an_append() -> int:
        query = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT * FROM {append}"
        [([plan],)] = hub.execute(query).fetchall()
        return int(plan["Plan"]["Shared Hit Blocks"])

    def append_often(times: int) -> None:
        loop = f"FOR i IN 1..{times} LOOP PERFORM {append}; COMMIT; END LOOP"
        hub.execute(f"DO $$ BEGIN {loop}; END $$")

    with psycopg.connect(url) as other, psycopg.connect(url, autocommit=True) as hub:
        other.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        other.execute("SELECT count(*) FROM tidings.head")
        append_often(100)
        before = blocks_of_an_append()
        append_often(2000)
        assert blocks_of_an_append() <= before + 20
