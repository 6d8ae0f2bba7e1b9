"""`tidings.publish` in an app's own transaction: seen exactly if it was committed, and once."""

from __future__ import annotations

import os
import random
import re
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from support.events import MANY, all_events, contents, drafts, next_events
from support.project import ROOT
from support.waiting import PATIENCE, until
from webapp.core.events import Draft, check_name
from webapp.core.removals import Removal
from webapp.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.broker_process import Connect
    from support.postgres_server import PostgresServer

PUBLISH = "SELECT tidings.publish(%s, %s)"
LEFT = "SELECT (SELECT count(*) FROM tidings.outbox), (SELECT count(*) FROM tidings.commits)"


@contextmanager
def session(url: str) -> Iterator[Any]:
    """A connection of an app, in autocommit."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


def test_what_a_transaction_publishes_is_seen_when_it_commits(url: str, connect: Connect) -> None:
    log = connect(url)
    start = log.bounds().head
    follower = log.follow(start)
    with session(url) as app, session(url) as other:
        with app.transaction(force_rollback=True):
            app.execute(PUBLISH, ("t", "never"))
        with app.transaction():
            app.execute(PUBLISH, ("t", "a"))
            with app.transaction(force_rollback=True):  # a savepoint
                app.execute(PUBLISH, ("t", "never"))
            other.execute(PUBLISH, ("t", "before"))  # it waits for nobody
            assert contents(next_events(follower, 1)) == ["before"]
            app.execute(PUBLISH, ("t", "b" * 100_000))
        assert contents(next_events(follower, 2)) == ["a", "b" * 100_000]
    assert contents(all_events(log)) == ["before", "a", "b" * 100_000]


def test_an_event_comes_back_as_the_transaction_gave_it(url: str, connect: Connect) -> None:
    log = connect(url)
    follower = log.follow(log.bounds().head)
    data = 'line\r\nline\n\x01 \x7f "quoted" \\ / \u2028 🎈'
    with session(url) as app:
        app.execute(
            "SELECT tidings.publish('é', %s, type => 'the type', id => 'my id', private => true,"
            " ended => true, alternates => ARRAY['other', 'é'])",
            (data,),
        )
        app.execute("SELECT tidings.publish('empty')")
        app.execute("SELECT tidings.publish('/a', %s, type => 'x', private => true)", (data,))
    expected = Draft(
        topics=("é", "other"), data=data, type="the type", id="my id", private=True, ended=True
    )
    [event, empty, typed] = next_events(follower, 3)
    assert (event.draft, empty.draft) == (expected, Draft(topics=("empty",)))
    assert typed.draft == Draft(topics=("/a",), data=data, type="x", private=True)
    assert log.append([expected])[0].position == event.position  # the same, wherever it is from


def test_an_event_of_a_transaction_may_expire(url: str, connect: Connect) -> None:
    log = connect(url)
    start = log.bounds().head
    follower = log.follow(start)
    publish = "SELECT tidings.publish('t', %s, id => %s, ttl => '1 second', ended => %s)"
    with session(url) as app:
        app.execute(publish, ("a", "own", False))
        app.execute(publish, ("b", None, True))
        a, b = next_events(follower, 2)
        assert (a.draft.ttl, b.draft.ttl, b.draft.ended) == (1000, 1000, True)
        until(lambda: log.now() > b.expires, "both have expired")
        app.execute(PUBLISH, ("t", "c"))  # the end has expired
        [c] = next_events(follower, 1)
        app.execute(publish, ("a", "own", False))  # the same again
    assert contents(log.read(start, MANY)) == ["c"]
    assert log.newest(["t"], c.position.next(0), public=True) == [c.position]
    assert log.position_of("own") == a.position


def test_a_search_path_of_the_apps_does_not_change_what_the_function_does(
    url: str, connect: Connect
) -> None:
    log = connect(url)
    follower = log.follow(log.bounds().head)
    with session(url) as app, app.transaction():
        app.execute("CREATE SCHEMA evil; SET LOCAL search_path = evil, pg_catalog")
        app.execute("CREATE FUNCTION concat(VARIADIC text[]) RETURNS text RETURN 'evil'")
        app.execute("CREATE FUNCTION octet_length(text) RETURNS int RETURN 1/0")
        app.execute("CREATE FUNCTION less(timestamptz, timestamptz) RETURNS bool RETURN 1/0 > 0")
        app.execute(
            "CREATE OPERATOR < (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = less)"
        )
        app.execute(PUBLISH, ("t", "a"))
        app.execute("SELECT tidings.publish('t', 'b', private => true)")
    assert contents(next_events(follower, 2)) == ["a", "b"]
    with session(url) as app:
        app.execute("DROP SCHEMA evil CASCADE")


def test_what_the_hub_would_refuse_fails_in_the_transaction(url: str, connect: Connect) -> None:
    import psycopg

    log = connect(url)
    log.append(drafts("a", id="taken"))
    [topic] = log.read(log.bounds().floor, MANY)[0].draft.topics
    log.append([Draft(topics=("over",), ended=True)])
    with session(url) as app:
        app.execute("SELECT tidings.publish(%s, 'a', id => 'taken')", (topic,))  # it is there
        for arguments, words in (
            ("NULL", "A topic has 1 to"),
            ("''", "A topic has 1 to"),
            ("repeat('x', 1025)", "A topic has 1 to"),
            ("E'a\\nb'", "control characters"),
            ("'a', type => 'hub.x'", "reserved"),
            ("'a', type => E'x\\u200b'", "invisible"),
            ("'a', id => '1-2'", "reserved forms"),
            ("'a', id => 'null'", "reserved forms"),
            ("'a', id => ' x'", "printable ASCII"),
            ("'a', repeat('x', 9000000)", "at most 8 MB"),
            ("'a', ttl => '999 milliseconds'", "A ttl is a second or more"),
            (f"'{topic}', 'b', id => 'taken'", "taken by an event with other content"),
            ("'new', alternates => ARRAY['over']", "has ended"),
        ):
            with pytest.raises(psycopg.Error, match=words):
                app.execute(f"SELECT tidings.publish({arguments})")
    assert log.count() == 2


def test_a_look_at_the_ended_topics_is_spared_where_there_are_none(
    postgres: PostgresServer, url: str, connect: Connect
) -> None:
    log = connect(url)
    log.bounds()
    value = "SELECT pg_sequence_last_value('tidings.topics_ended')"
    assert postgres.ask(value, url=url) == [(None,)]
    [end] = log.append([Draft(topics=("over",), ended=True)])
    postgres.ask("SELECT tidings.publish('t')", url=url)
    assert postgres.ask(value, url=url) == [(2,)]
    log.remove(Removal("over", end.position, end.position))
    postgres.ask("SELECT tidings.trim(1000, 1000000, 0)", url=url)
    assert postgres.ask(value, url=url) == [(1,)]
    postgres.ask("SELECT tidings.publish('over')", url=url)


def test_the_function_and_the_hub_refuse_the_same_characters(url: str, connect: Connect) -> None:
    connect(url).bounds()
    with session(url) as app:
        app.execute(
            "CREATE FUNCTION pg_temp.refused(c text) RETURNS boolean LANGUAGE plpgsql AS $$"
            " BEGIN PERFORM tidings.check_name('topic', c); RETURN false;"
            " EXCEPTION WHEN others THEN RETURN true; END $$"
        )
        codes = [*range(1, 0x3000), *range(0xFE00, 0x11100), *range(0x13400, 0x13500)]
        codes += [*range(0x1BC00, 0x1BD00), *range(0x1D100, 0x1D200), *range(0xE0000, 0xE0100)]
        query = "SELECT array_agg(c) FROM unnest(%s::text[]) c WHERE pg_temp.refused(c)"
        [(found,)] = app.execute(query, ([chr(code) for code in codes],)).fetchall()
    assert set(found) == {chr(code) for code in codes if is_refused(chr(code))}


def is_refused(text: str) -> bool:
    try:
        check_name("topic", text)
    except BadRequest:
        return True
    return False


def test_what_is_found_too_late_is_left_out_and_listed(
    postgres: PostgresServer, url: str, connect: Connect
) -> None:
    log = connect(url)
    follower = log.follow(log.bounds().head)
    with session(url) as app, app.transaction():
        own = "SELECT tidings.publish('t', %s, id => 'own')"
        app.execute(own, ("first",))
        app.execute(own, ("other",))
        app.execute(own, ("first",))  # the same again
        app.execute("SELECT tidings.publish('over', 'the end', ended => true)")
        app.execute(PUBLISH, ("over", "late"))
        app.execute(PUBLISH, ("t", "last"))
    assert contents(next_events(follower, 3)) == ["first", "the end", "last"]
    refused = "SELECT topic, own, reason FROM tidings.refused ORDER BY number"
    assert postgres.ask(refused, url=url) == [("t", "own", "conflict"), ("over", None, "ended")]
    newest = [(it.topic, it.id, it.reason) for it in log.usage().refused]
    assert newest == [("over", None, "ended"), ("t", "own", "conflict")]
    assert abs(log.usage().refused[0].time - log.now() / 1000) < PATIENCE
    assert postgres.ask(LEFT, url=url) == [(0, 0)]


def test_a_move_takes_whole_transactions_in_the_order_of_their_commits(
    postgres: PostgresServer, url: str, connect: Connect
) -> None:
    log = connect(url)
    start = log.bounds().head
    many = "SELECT tidings.publish('t', %s || n) FROM generate_series(1, %s) n"
    with session(url) as app, session(url) as other:
        with app.transaction():
            app.execute(many, ("second ", 1500))
            other.execute(many, ("first ", 1000))
        app.execute("SELECT tidings.publish('t', 'third', id => 'own')")
        app.execute(many, ("fourth ", 2500))

    def moved() -> list[Any]:
        return postgres.ask("SELECT * FROM tidings.move(false)", url=url)

    assert [moved() for _ in range(4)] == [
        [(1000, 0, True)],
        [(1501, 0, True)],
        [(2500, 0, False)],
        [(0, 0, False)],
    ]
    assert postgres.ask(LEFT, url=url) == [(0, 0)]
    expected = [f"first {n}" for n in range(1, 1001)] + [f"second {n}" for n in range(1, 1501)]
    expected += ["third"] + [f"fourth {n}" for n in range(1, 2501)]
    assert contents(log.read(start, MANY)) == expected


def test_a_move_keeps_the_order_of_events_in_each_transaction(
    postgres: PostgresServer, url: str, connect: Connect
) -> None:
    log = connect(url)
    start = log.bounds().head
    with session(url) as app:
        for topics, own in (("zyx", None), ("cab", None), ("cab", "own"), ("q", None)):
            with app.transaction():
                for topic in topics:
                    app.execute("SELECT tidings.publish(%s, %s, id => %s)", (topic, topic, own))
    assert postgres.ask("SELECT * FROM tidings.move(false)", url=url) == [(10, 0, False)]
    assert contents(log.read(start, MANY)) == list("zyxcabcabq")


def test_no_list_depends_on_the_order_that_another_aggregate_needs() -> None:
    # If one aggregate of a query has DISTINCT, PostgreSQL 16 sorts the rows of all of them.
    for file in (ROOT / "webapp" / "brokers" / "postgres").glob("*.sql"):
        assert not re.search(r"(?i)\w\(\s*DISTINCT\b", file.read_text()), file.name


def test_an_app_needs_only_the_right_to_publish(
    postgres: PostgresServer, url: str, connect: Connect
) -> None:
    import psycopg

    log = connect(url)
    follower = log.follow(log.bounds().head)
    postgres.ask("CREATE ROLE app LOGIN")
    postgres.ask(
        "GRANT USAGE ON SCHEMA tidings TO app; GRANT EXECUTE ON FUNCTION tidings.publish TO app",
        url=url,
    )
    with session(url.replace("hub@", "app@")) as app:
        app.execute(PUBLISH, ("t", "a"))
        for other in ("SELECT * FROM tidings.move(true)", "SELECT * FROM tidings.log"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                app.execute(other)
    assert contents(next_events(follower, 1)) == ["a"]
    postgres.ask("DROP OWNED BY app; DROP ROLE app", url=url)


def test_transactions_that_conflict_are_in_the_order_of_their_commits(
    url: str, connect: Connect
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    log = connect(url)
    follower = log.follow(log.bounds().head)
    with session(url) as app:
        app.execute("CREATE TABLE IF NOT EXISTS public.stock (number int)")
        app.execute("TRUNCATE public.stock; INSERT INTO public.stock VALUES (0)")

    def sell(seed: int) -> None:
        chance = random.Random(seed)
        with session(url) as app:
            for _ in range(15):
                with app.transaction():
                    early = chance.random() < 0.5  # before it waits for the others
                    if early:
                        app.execute(PUBLISH, ("begun", ""))
                    update = "UPDATE public.stock SET number = number + 1 RETURNING number"
                    [(number,)] = app.execute(update).fetchall()
                    app.execute(PUBLISH, ("stock", str(number)))

    with ThreadPoolExecutor() as pool:
        list(pool.map(sell, range(4)))
    found = list[int]()
    while len(found) < 60:
        for event in next_events(follower, 1):
            if event.draft.topics == ("stock",):
                found.append(int(event.draft.data))
    assert found == list(range(1, 61))


def test_another_process_takes_over_from_one_that_is_stopped_or_killed(
    postgres: PostgresServer, url: str, connect: Connect
) -> None:
    logs = [connect(url) for _ in range(2)]
    followers = [log.follow(log.bounds().head) for log in logs]
    owner = "SELECT owner FROM tidings.relay WHERE until > now()"

    def publish(data: str) -> None:
        with session(url) as app:
            app.execute(PUBLISH, ("t", data))

    until(lambda: postgres.ask(owner, url=url), "one of them has begun")
    publish("a")
    assert [contents(next_events(it, 1)) for it in followers] == [["a"], ["a"]]
    logs[0].process.send_signal(signal.SIGSTOP)
    publish("b")
    assert contents(next_events(followers[1], 1)) == ["b"]
    os.kill(logs[0].process.pid, signal.SIGCONT)
    assert contents(next_events(followers[0], 1)) == ["b"]
    logs[1].process.kill()
    publish("c")
    assert contents(next_events(followers[0], 1)) == ["c"]
    assert contents(all_events(logs[0])) == ["a", "b", "c"]
