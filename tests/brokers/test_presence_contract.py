"""What every store promises, asked of each kind in processes of their own."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.waiting import until
from webapp.brokers.memory_presence import MemoryPresenceStore
from webapp.brokers.sqlite.presence import SqlitePresenceStore
from webapp.errors import Misconfigured, ServiceUnavailable

if TYPE_CHECKING:
    from support.broker_process import Connect

LEASE = 1.5  # seconds


def test_who_came_is_listed_and_who_left_is_not_and_both_are_noticed(connect: Connect) -> None:
    store = connect()
    assert store.heartbeat({}) in {True, False}
    start = store.notices_after(None).last_number
    assert store.heartbeat({"one": "about one", "two": "about ü"})
    assert store.subscribers() == [("one", "about one"), ("two", "about ü")]
    assert store.heartbeat({"one": None, "nobody": None, "three": "about three"})
    assert store.subscribers() == [("three", "about three"), ("two", "about ü")]
    news = store.notices_after(start)
    assert news.complete
    assert sorted(news.notices) == [
        "+one about one",
        "+three about three",
        "+two about ü",
        "-one about one",
    ]
    assert store.notices_after(news.last_number) == ([], news.last_number, True)
    store.deregister()
    assert store.subscribers() == []
    assert sorted(store.notices_after(news.last_number).notices) == [
        "-three about three",
        "-two about ü",
    ]


def test_notices_come_in_order_and_missed_ones_are_reported(connect: Connect) -> None:
    store = connect()
    start = store.notices_after(None).last_number
    for number in range(10):
        store.broadcast(f"!{number}")
    first, upto = list[str](), start
    while len(first) < 10:
        news = store.notices_after(upto)
        assert news.complete
        first, upto = first + news.notices, news.last_number
    assert first == [f"!{number}" for number in range(10)]
    long = "x" * 400_000
    for _ in range(20):
        store.broadcast(f"!{long}")
    assert not store.notices_after(upto).complete
    assert not store.notices_after(upto + 1_000_000).complete  # of another store


def test_what_is_revoked_is_remembered_until_its_time(connect: Connect) -> None:
    store = connect()
    start, now = store.notices_after(None).last_number, time.time()
    ends = {"one": now + 60, "two": now + 3600}
    for name, end in ends.items():
        store.revoke(name, end, f"#{name}")
    assert dict(store.revoked()) == pytest.approx(ends, rel=0, abs=0.001)
    assert store.notices_after(start).notices == ["#one", "#two"]
    soon = time.time() + 0.05
    store.revoke("soon", soon, "#soon")  # the next one forgets it
    until(lambda: time.time() > soon + 0.001, "it has ended")  # servers round to milliseconds
    store.revoke("more", now + 3600, "#more")
    assert [what for what, _ in sorted(store.revoked())] == ["more", "one", "two"]


def test_a_subject_is_remembered_once_by_its_latest_time(connect: Connect, url: str) -> None:
    one = connect()
    other = one if url.startswith("memory") else connect()
    now = time.time()
    start = one.notices_after(None).last_number
    for number in range(20):
        for store in (one, other):
            store.revoke_subject("jö\n", now + number, 0.0, f"#{number}")
    other.revoke_subject("jö\n", now - 5, 0.0, "#before")  # by a clock that is behind
    one.revoke_subject("ann", now - 60, 0.0, "#ann")
    found = dict(other.subjects())
    assert found == pytest.approx({"jö\n": now + 19, "ann": now - 60}, rel=0, abs=0.001)
    assert one.notices_after(start).notices[-1] == "#ann"
    one.revoke_subject("joe", now, now - 30, "#joe")  # what is older is forgotten
    assert sorted(name for name, _ in other.subjects()) == ["joe", "jö\n"]


@pytest.mark.parametrize("kind", ["memory_presence", "sqlite.presence"])
def test_a_subject_that_is_known_may_be_revoked_where_no_other_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(f"webapp.brokers.{kind}.MAX_REVOKED", 3)
    store = (
        SqlitePresenceStore(tmp_path / "file", 15) if "sqlite" in kind else MemoryPresenceStore()
    )
    now = time.time()
    for number in range(3):
        store.revoke_subject(str(number), now, 0.0, "#")
        store.revoke(f"token {number}", now + 60, "#")
    for number in range(3):
        store.revoke_subject(str(number), now + 1, 0.0, "#")
        store.revoke(f"token {number}", now + 60, "#")
    with pytest.raises(ServiceUnavailable, match="TIDINGS_MAX_TOKEN_AGE"):
        store.revoke_subject("3", now, 0.0, "#")
    with pytest.raises(ServiceUnavailable, match="Rotate the key"):
        store.revoke("token 3", now + 60, "#")
    store.revoke_subject("3", now + 3, now + 2, "#")  # the others are forgotten
    assert [name for name, _ in store.subjects()] == ["3"]
    store.close()


@pytest.mark.parametrize("url", ["sqlite", "redis", "valkey"], indirect=True)
def test_what_a_hub_of_before_has_revoked_is_obeyed_and_takes_no_room(connect: Connect) -> None:
    store, now = connect(), time.time()
    for name in ("joe", 'a "quoted", ü'):
        for at in (now - 9, now - 3):  # it wrote each of them down for ever
            store.revoke(json.dumps(["subject", name, at]), now + 1e9, "#")
    store.revoke(json.dumps(["token", "abc", now]), now + 60, "#")
    expected = {"joe": now - 3, 'a "quoted", ü': now - 3}
    assert dict(store.subjects()) == pytest.approx(expected, rel=0, abs=0.001)
    assert [json.loads(what)[:2] for what, _ in store.revoked()] == [["token", "abc"]]


@pytest.mark.parametrize("url", ["sqlite", "redis", "valkey", "postgres"], indirect=True)
def test_a_killed_processes_subscribers_end_with_its_lease(
    connect: Connect,
) -> None:
    dying, living = connect(PRESENCE_LEASE=LEASE), connect(PRESENCE_LEASE=60)
    assert living.heartbeat({"ours": "about ours"}) is False
    assert dying.heartbeat({"theirs": "about theirs"}) is False
    until(lambda: len(living.subscribers()) < 2, "it is not listed")
    both = [("ours", "about ours"), ("theirs", "about theirs")]

    def listed() -> tuple[float, float] | None:
        began = time.monotonic()
        assert dying.heartbeat({}) is True  # it comes before anybody notices
        renewed = time.monotonic()
        return (began, renewed) if living.subscribers() == both else None

    began, renewed = until(listed, "it is listed again")
    start = living.notices_after(None).last_number
    asked = seen = renewed
    while len(living.subscribers()) == 2 and seen - renewed < LEASE:
        seen, asked = asked, time.monotonic()
    assert seen - renewed < LEASE
    assert time.monotonic() - began > 0.5 * LEASE
    assert living.heartbeat({}) is True  # it drops the other
    assert living.subscribers() == [("ours", "about ours")]
    assert living.notices_after(start).notices == ["-theirs about theirs"]
    assert dying.heartbeat({}) is False  # its lease had ended
    assert living.subscribers() == [("ours", "about ours")]


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_store_whose_file_is_taken_away_is_created_again(connect: Connect, url: str) -> None:
    store = connect()
    store.heartbeat({})
    [file] = Path(url.removeprefix("sqlite:///")).parent.glob("*-readers")
    lost = file.rename(file.with_name("lost"))
    assert store.heartbeat({"one": "about one"}) is False  # another file was made
    assert store.subscribers() == [("one", "about one")]
    assert lost.exists()


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_an_error_of_the_presence_file_names_the_presence_store(
    connect: Connect, tmp_path: Path
) -> None:
    (tmp_path / "log.db-readers").write_text("a text, not a database" * 1000)
    with pytest.raises(Misconfigured, match="The presence store's file is not an SQLite database"):
        connect().heartbeat({})
