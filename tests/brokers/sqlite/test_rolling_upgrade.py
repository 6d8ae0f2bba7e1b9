"""A hub of version 0.1.0 and one of this version append to the same file, at the same time."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from support.events import MANY, all_events, all_topics, next_events
from support.sqlite_file import is_intact, mounted, opened
from support.sqlite_log_0_1_0 import OldLog
from support.waiting import PATIENCE, until
from webapp.brokers.base import TopicEnd
from webapp.core.events import Draft, EventId
from webapp.core.removals import Removal
from webapp.errors import Conflict

if TYPE_CHECKING:
    from pathlib import Path

    from support.broker_process import BrokerProcess, Connect

END = EventId(1 << 60, 0)
TOPICS = [f"topic {number}" for number in range(20)]


def draft(number: int, data: str) -> Draft:
    return Draft(topics=(TOPICS[number % 20], "all"), data=f"{data} {number}")


def of_topic(log: BrokerProcess, topic: str) -> list[EventId]:
    position, found = log.bounds().floor, list[EventId]()
    while True:
        page = log.read_topics(position, MANY, [topic])
        found += [event.position for event in page.events]
        if page.upto >= page.bounds.head:
            return found
        position = page.upto


def unindexed_rows(path: Path) -> int:
    with opened(path) as db:
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'segments'").fetchone():
            return MANY
        query = "SELECT count(*) FROM events WHERE place > (SELECT max(upto) FROM segments)"
        [(rows,)] = db.execute(query)
    return int(rows)


def test_publishers_on_both_lose_nothing_and_double_nothing(connect: Connect, path: Path) -> None:
    old = OldLog(path)
    before = old.append([draft(number, "before") for number in range(600)]) or []
    log = connect()
    follower = log.follow(before[-1])

    def publish_on_old() -> list[EventId]:
        batches = [[draft(number, "old")] * (number % 3 + 1) for number in range(300)]
        return [position for it in batches for position in old.append(it) or ()]

    def publish_on_new() -> list[EventId]:
        batches = [[draft(number, "new")] * (number % 13 + 1) for number in range(300)]
        return [event.position for it in batches for event in log.append(it)]

    with ThreadPoolExecutor() as pool:
        both = [pool.submit(publish_on_old), pool.submit(publish_on_new)]
        published = sorted(position for it in both for position in it.result(PATIENCE))
    assert [it.position for it in next_events(follower, len(published))] == published
    events = all_events(log)
    assert [it.position for it in events] == [*before, *published]
    until(lambda: unindexed_rows(path) < 256, "what both appended is in the index")
    for topic in ("all", *TOPICS[:3]):
        expected = [it.position for it in events if topic in it.draft.topics]
        assert of_topic(log, topic) == expected
        assert log.newest([topic], END, public=True) == expected[-1:]
    [entry] = all_topics(log, "all")
    assert (entry.events, entry.newest) == (len(events), published[-1])
    assert is_intact(path)


def test_what_a_stopped_hub_missed_is_found_at_once(connect: Connect, path: Path) -> None:
    """Whether an older hub appended or trimmed meanwhile, and before the index has caught up."""
    log = connect()
    first = [it.position for it in log.append([draft(number, "new") for number in range(2000)])]
    until(lambda: unindexed_rows(path) < 256, "the index is there")
    log.stop()
    old = OldLog(path)
    second = old.append([draft(number, "old") for number in range(600)]) or []
    old.trim(1800)
    log = connect()
    assert of_topic(log, "all") == [*first[1800:], *second]
    [entry] = all_topics(log, "all")
    assert entry.events == 800
    old.trim(700)
    assert of_topic(log, "all") == second[-100:]
    until(lambda: unindexed_rows(path) < 256, "the index has caught up")
    assert of_topic(log, "all") == second[-100:]
    assert [it.events for it in all_topics(log)] == [100, *[5] * 20]


def test_an_own_id_of_either_version_is_found(connect: Connect, path: Path) -> None:
    old, log = OldLog(path), connect()
    a, b = Draft(topics=("a",), id="v"), Draft(topics=("b",), id="v")
    [first] = old.append([a]) or []
    assert [it.position for it in log.append([a])] == [first]
    with pytest.raises(Conflict):
        log.append([Draft(topics=("a",), id="v", data="other")])
    [second] = log.append([b])
    assert log.positions_of("v", None, 10) == [first, second.position]
    # The old hub knows the first one, and refuses the id in all other topics, as it always has.
    assert old.append([a]) == [first]
    assert old.append([b]) is None
    [third] = log.append([Draft(topics=("b",), id="w")])
    assert old.append([Draft(topics=("b",), id="w")]) == [third.position]
    assert [it.position for it in log.append([b])] == [second.position]


def test_an_own_id_is_not_doubled_when_its_first_event_is_trimmed(
    connect: Connect, path: Path
) -> None:
    old, ordinary = OldLog(path), Draft(topics=("t",))
    a, b, c, d = (Draft(topics=(name,), id="v") for name in "abcd")
    old.append([a, ordinary])
    log = connect()
    second, third, fourth = (log.append([it])[0].position for it in (b, c, d))
    old.trim(2)
    assert old.append([b]) == [second]
    assert log.append([b])[0].position == second
    old.append([ordinary])
    old.trim(2)  # the second and the third one
    assert old.append([d]) == [fourth]
    assert log.append([d])[0].position == fourth
    assert log.append([c])[0].position > third
    assert log.positions_of("v", third, 10, ["d"]) == [fourth]


def test_events_expire_beside_an_old_hub(connect: Connect, path: Path) -> None:
    old, ordinary = OldLog(path), Draft(topics=("t",))
    [first] = old.append([ordinary]) or []
    log = connect()
    [event] = log.append([Draft(topics=("t", "u"), id="own", ttl=1000)])
    [later] = old.append([ordinary]) or []
    assert old.append([Draft(topics=("u",), id="own")]) is None  # it knows the id
    until(lambda: log.now() > event.expires, "it has expired")
    assert of_topic(log, "t") == [first, later]
    assert [it.topic for it in all_topics(log)] == ["t"]
    [last] = old.append([ordinary]) or []
    assert of_topic(log, "t") == [first, later, last]
    old.trim(3)
    assert of_topic(log, "t") == [last]


def test_events_are_removed_beside_an_old_hub(connect: Connect, path: Path) -> None:
    """What it appends before and after is kept, and it reads past the entry that removes events."""
    old, ordinary, secret = OldLog(path), Draft(topics=("t",)), Draft(topics=("s",), data="secret")
    [first] = old.append([ordinary]) or []
    log = connect()
    [hidden] = old.append([secret]) or []
    [later] = old.append([ordinary]) or []
    assert log.remove(Removal("s", hidden, hidden)).number == 1
    [last] = old.append([ordinary]) or []
    assert [it.position for it in all_events(log)] == [first, later, last]
    with opened(path) as db:
        assert db.execute("SELECT 1 FROM events WHERE draft LIKE '%secret%'").fetchall() == []
    [again] = old.append([secret]) or []
    assert log.remove(Removal("s", EventId(0, 0), END)).number == 1
    assert log.position_of(str(again)) == again
    old.trim(2)
    assert [it.topic for it in all_topics(log)] in ([], ["t"])
    assert is_intact(path)


def test_an_end_is_kept_beside_an_old_hub(connect: Connect, path: Path) -> None:
    """It reads the end as an ordinary event, and may append after it."""
    old, ordinary = OldLog(path), Draft(topics=("t",))
    old.append([ordinary])
    log = connect()
    assert log.ends(["t"]) == [None]
    assert log.newest_end() is None
    [event] = log.append([Draft(topics=("t", "u"), ended=True)])
    assert log.ends(["t", "u"]) == [TopicEnd(event.position, private=False)] * 2
    [later] = old.append([ordinary]) or []
    with pytest.raises(Conflict):
        log.append([ordinary])
    assert of_topic(log, "t")[1:] == [event.position, later]
    old.trim(2)
    assert log.ends(["t"]) == [None]
    assert log.newest_end() is None
    log.append([ordinary, Draft(topics=("u", "t"), ended=True)])
    with pytest.raises(Conflict):
        log.append([ordinary])


def test_without_room_for_an_index_reads_are_exact(connect: Connect, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with mounted(disk, "-t", "tmpfs", "-o", "size=8m", "none"):
        old = OldLog(disk / "log.db")
        names = [f"{number} {'x' * 1000}" for number in range(500)]
        positions = old.append([Draft(topics=(name,)) for name in names]) or []
        ballast = disk / "ballast"
        with opened(disk / "log.db") as db:  # or closing the file would need more room
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            ballast.write_bytes(b"x" * (shutil.disk_usage(disk).free - 200_000))
            log = connect(disk / "log.db")
            page = log.read_topics(log.bounds().floor, MANY, names[3:4])
            assert [it.position for it in page.events] == [positions[3]]
            assert log.newest(names[:2], END, public=True) == positions[:2]
            assert len(all_topics(log)) == 500
        ballast.unlink()
        until(lambda: unindexed_rows(disk / "log.db") == 0, "the index is there")
        assert len(all_topics(log)) == 500
        log.stop()
