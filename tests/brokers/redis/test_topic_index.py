"""The index by topic in Redis: what older hubs append, what is damaged or trimmed; its bounds."""

from __future__ import annotations

import random
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from support.doc_pages import blocks
from support.events import MANY, all_events, all_topics, contents, drafts, next_events
from support.programs import need
from support.redis_0_1_0 import BUILDS, OldHub
from support.redis_log import IDS, LOG, each_kind
from support.waiting import PATIENCE, until
from webapp.brokers.base import TopicEnd
from webapp.core.events import Draft, EventId
from webapp.core.globs import Glob
from webapp.core.removals import Removal
from webapp.errors import Conflict

if TYPE_CHECKING:
    from support.broker_process import BrokerProcess, Connect
    from support.redis_server import RedisServer, Run
    from webapp.core.events import Event

DIRECTORY = "{tidings}:topics"
END = EventId(1 << 60, 0)
each_build = pytest.mark.parametrize("build", BUILDS)


def some_drafts(chance: random.Random, count: int, prefix: str = "t") -> list[Draft]:
    def one(number: int) -> Draft:
        topics = (f"{prefix}/{n}" for n in chance.choices(range(9), k=chance.choice([1, 1, 3])))
        return Draft(topics=tuple(topics), data=f"{number}", private=chance.random() < 0.3)

    return [one(number) for number in range(count)]


def of_topic(log: BrokerProcess, topic: str) -> list[Event]:
    position, found = log.bounds().floor, []
    while True:
        page = log.read_topics(position, 2000, [topic])
        found += page.events
        if page.upto >= page.bounds.head:
            return found
        position = page.upto


def check(log: BrokerProcess) -> None:
    """Compare the index with a walk through the event log. Nobody may publish meanwhile."""
    directory, events = all_topics(log), all_events(log)
    by_topic: dict[str, list[Event]] = {}
    for event in events:
        for topic in sorted({*event.draft.topics}):
            by_topic.setdefault(topic, []).append(event)
    assert [it.topic for it in directory] == sorted(by_topic)
    newest = log.newest(list(by_topic), END, public=False)
    assert newest == [found[-1].position for found in by_topic.values()]
    for line in directory:
        found = [it.position for it in by_topic[line.topic]]
        public = [it.position for it in by_topic[line.topic] if not it.draft.private]
        assert line == (line.topic, found[-1], len(found), max(public, default=None), len(public))
        assert [it.position for it in of_topic(log, line.topic)] == found
        last = log.before_topics(END, 20, MANY, [line.topic])
        assert [it.position for it in last] == found[-20:]


@each_build
def test_a_log_of_0_1_0_is_read_by_topic_at_once(
    server: RedisServer, connect: Connect, build: str
) -> None:
    chance = random.Random(1)
    OldHub(server, build).append(some_drafts(chance, 1500))
    check(connect(server.url))  # no follower has built the index


@each_build
def test_the_follower_has_the_index_of_an_old_log_built(
    server: RedisServer, connect: Connect, build: str
) -> None:
    OldHub(server, build).append(some_drafts(random.Random(2), 1500))
    server.ask("HSET", IDS, "#index", "damaged")
    log = connect(server.url)
    log.follow(log.bounds().head)
    head = str(log.bounds().head)
    until(lambda: (server.ask("HGET", IDS, "#index") or "").startswith(head), "it is built")
    until(lambda: server.ask("HGET", IDS, "#indexer") is None, "the builder has ended")
    check(log)


@each_build
@pytest.mark.parametrize("max_events", [100_000, 700], ids=["", "trimming"])
def test_hubs_of_both_versions_publish_and_nothing_is_lost_or_doubled(
    server: RedisServer, connect: Connect, build: str, max_events: int
) -> None:
    logs = [connect(server.url, HISTORY_EVENTS=max_events) for _ in range(2)]
    old, start = OldHub(server, build, max_events), logs[0].bounds().head
    followers = [log.follow(start) for log in logs]

    def publish_old(part: int) -> list[str]:
        found = []
        for n in range(60):
            found += old.append(some_drafts(random.Random(n), 3, f"old {part}")) or []
        return found

    with ThreadPoolExecutor() as pool:
        publishing = [pool.submit(publish_old, part) for part in range(2)]
        calls = [
            log.start("append", some_drafts(random.Random(n), 3, "new"))
            for n in range(60)
            for log in logs
        ]
        positions = [str(it.position) for call in calls for it in call.result(PATIENCE)]
        positions += [it for part in publishing for it in part.result(PATIENCE)]
    assert len({*positions}) == len(positions) == 720
    old.read()
    for log, follower in zip(logs, followers, strict=True):
        seen = [str(it.position) for it in next_events(follower, 720)]
        assert sorted(seen) == sorted(positions)
        check(log)


@each_build
def test_an_own_id_that_both_versions_publish_is_not_doubled(
    server: RedisServer, connect: Connect, build: str
) -> None:
    log, old = connect(server.url), OldHub(server, build)
    [first] = old.append(drafts("a", id="one")) or []
    [same] = log.append(drafts("a", id="one"))
    [second] = log.append(drafts("b", id="two"))
    assert old.append(drafts("b", id="two")) == [str(second.position)]
    assert str(same.position) == first
    other = Draft(topics=("other",), data="a", id="one")
    [third] = log.append([other])
    assert log.positions_of("one", None, 10) == [same.position, third.position]
    assert old.append([other]) is None  # it is a conflict there, and nothing breaks
    assert log.append([other])[0].position == third.position


def test_an_own_id_of_many_topics_is_forgotten_event_by_event(
    server: RedisServer, connect: Connect
) -> None:
    log = connect(server.url, HISTORY_EVENTS=100)
    for n in range(300):
        log.append([Draft(topics=(f"{n}",), id="same"), Draft(topics=("a", f"{n}"), id=f"id {n}")])
    kept = [it.position for it in all_events(log) if it.id == "same"]
    assert log.positions_of("same", None, 1000) == kept
    assert log.positions_of("same", kept[3], 5) == kept[4:9]
    assert log.positions_of("same", None, 5, ["299", "290"]) == [kept[-10], kept[-1]]
    # An id is forgotten a little later than its event.
    assert server.ask("HLEN", IDS) <= log.count() + 30
    assert server.ask("LLEN", f"{IDS}:same") == len(kept)


@pytest.mark.parametrize(
    "damage",
    [
        ("DEL", DIRECTORY),
        ("SET", DIRECTORY, "x"),
        ("HDEL", IDS, "#index"),
        ("HSET", IDS, "#index", "damaged"),
        ("HSET", IDS, "#index", "99999999999999999999-1 - 0 "),
        ("HSET", IDS, "#index", "1-1 - 0 "),
        ("HSET", IDS, "#indexer", "other 99999999999999"),
        ("HSET", IDS, "#indexer", "damaged"),
        ("DEL", IDS),
        ("DEL", LOG),
        ("FLUSHALL",),
    ],
)
def test_a_damaged_index_is_built_again(
    server: RedisServer, connect: Connect, damage: tuple[str, ...]
) -> None:
    log, chance = connect(server.url), random.Random(4)
    log.append(some_drafts(chance, 700))
    server.ask(*damage)
    log.append(some_drafts(chance, 200))
    check(log)
    log.append(some_drafts(chance, 20))
    check(log)


@pytest.mark.parametrize(
    "damage",
    [
        ("DEL", f"{DIRECTORY}:ended"),
        ("SET", f"{DIRECTORY}:ended", "x"),
        ("HSET", f"{DIRECTORY}:ended", "t", "x"),
        ("DEL", f"{DIRECTORY}:ends"),
        ("SET", f"{DIRECTORY}:ends", "x"),
        ("LPUSH", f"{DIRECTORY}:ends", "x"),
        ("DEL", DIRECTORY),
        ("HDEL", IDS, "#ends"),
        ("HSET", IDS, "#ends", "x"),
        ("DEL", IDS),
    ],
)
def test_ends_that_are_damaged_are_found_again(
    server: RedisServer, connect: Connect, damage: tuple[str, ...]
) -> None:
    log = connect(server.url)
    log.append([Draft(topics=("t", "u"), ended=True), *some_drafts(random.Random(6), 300)])
    [event] = log.append([Draft(topics=("v",), ended=True)])
    server.ask(*damage)
    log.append([Draft(topics=("x",))])
    check(log)
    if damage[0] == "HSET" or "#ends" in damage:  # of one topic: it is open, and may end again
        return
    assert log.newest_end() == event.position
    for topic in ("t", "u", "v"):
        with pytest.raises(Conflict):
            log.append([Draft(topics=(topic,))])


@each_build
def test_events_expire_beside_an_old_hub(server: RedisServer, connect: Connect, build: str) -> None:
    """It reads them as ordinary events; what it appends is indexed as ever."""
    old, log, ordinary = OldHub(server, build), connect(server.url), Draft(topics=("t",))
    old.append([ordinary])
    [event] = log.append([Draft(topics=("t", "u"), data="x", ttl=1000)])
    old.read()
    old.append([ordinary])
    until(lambda: log.now() > event.expires, "it has expired")
    old.read()
    old.append([ordinary])
    assert log.newest(["u"], EventId(1 << 60, 0), public=True) == [None]
    check(log)
    until(lambda: log.count() == 3, "it has left the stream")
    assert log.position_of(str(event.position)) == event.position
    old.append([ordinary])
    check(log)


@each_build
def test_events_are_removed_beside_an_old_hub(
    server: RedisServer, connect: Connect, build: str
) -> None:
    """It reads past the entry that removes events; what it appends is indexed as ever."""
    old, log, ordinary = OldHub(server, build), connect(server.url), Draft(topics=("t",))
    old.append([ordinary])
    [event] = log.append([Draft(topics=("s",), data="secret")])
    old.append([ordinary])
    assert log.remove(Removal("s", event.position, event.position)).number == 1
    old.append([ordinary])
    old.read()
    assert "secret" not in str(server.ask("XRANGE", LOG, "-", "+"))
    assert log.position_of(str(event.position)) == event.position
    check(log)


@each_build
def test_an_end_is_kept_beside_an_old_hub(
    server: RedisServer, connect: Connect, build: str
) -> None:
    """It reads the end as an ordinary event, and may append after it."""
    old, log, ordinary = OldHub(server, build), connect(server.url), Draft(topics=("t",))
    old.append([ordinary])
    [event] = log.append([Draft(topics=("t", "u"), ended=True)])
    old.append([ordinary])
    with pytest.raises(Conflict):
        log.append([ordinary])
    assert log.ends(["u"]) == [TopicEnd(event.position, private=False)]
    check(log)
    server.ask("XTRIM", LOG, "MAXLEN", 1)
    assert log.ends(["t", "u"]) == [None, None]
    log.append([ordinary])
    assert log.newest_end() is None
    assert server.ask("EXISTS", f"{DIRECTORY}:ended", f"{DIRECTORY}:ends") == 0


@pytest.mark.parametrize("name", ["t/1", "new"])
def test_a_list_of_another_type_or_lost_is_built_again(
    server: RedisServer, connect: Connect, name: str
) -> None:
    log, chance = connect(server.url), random.Random(5)
    log.append(some_drafts(chance, 300))
    for kind in ("public", "private"):
        server.ask("SET", f"{DIRECTORY}:{kind}:{name}", "x")
    log.append([Draft(topics=(name,)), Draft(topics=(name,), private=True)])
    check(log)
    server.ask("DEL", f"{DIRECTORY}:public:{name}", f"{DIRECTORY}:private:{name}")
    log.append([Draft(topics=(name,)), Draft(topics=(name,), private=True)])
    check(log)


def test_many_events_leave_at_once_and_the_index_follows(
    server: RedisServer, connect: Connect
) -> None:
    log = connect(server.url)
    for part in range(20):
        log.append([Draft(topics=(f"{part} {n}", "all"), data="x") for n in range(200)])
    short = connect(server.url, HISTORY_EVENTS=100)
    assert short.count() < 400
    check(short)
    short.follow(short.bounds().head)
    until(lambda: server.ask("ZCARD", DIRECTORY) == short.count() + 2, "the rest is removed")
    assert len(server.ask("KEYS", f"{DIRECTORY}:*")) == short.count() + 1
    check(short)


@each_kind
def test_the_index_lies_within_the_bound_of_bytes(server: RedisServer, connect: Connect) -> None:
    log = connect(server.url, HISTORY_BYTES="2M")
    empty = server.ask("INFO", "memory")["used_memory"]
    for n in range(200):
        log.append([Draft(topics=tuple(f"a topic {n} {m}" for m in range(100)))])
    assert server.ask("INFO", "memory")["used_memory"] - empty < 4_000_000
    assert log.count() >= 20
    until(lambda: len(all_topics(log)) == 100 * log.count(), "others are not listed")
    until(
        lambda: log.bounds() and server.ask("ZCARD", DIRECTORY) == 100 * log.count() + 1, "removed"
    )


def test_the_index_is_removed_as_the_docs_say_and_built_again(
    server: RedisServer, connect: Connect
) -> None:
    log, chance = connect(server.url), random.Random(7)
    log.append([*some_drafts(chance, 300), Draft(topics=('it\'s a "topic"',))])
    [command] = blocks("deploy/upgrading.md", "From 0.1.0", "sh")
    need("redis-cli")
    command = command.replace("redis-cli", f"redis-cli -p {server.port}")
    subprocess.run(command, shell=True, check=True, capture_output=True)
    assert server.ask("KEYS", f"{DIRECTORY}*") == []
    check(log)


def test_a_restart_keeps_the_index(run: Run, connect: Connect) -> None:
    server = run("--save", "", "--appendonly", "yes", "--appendfsync", "always")
    log, chance = connect(server.url), random.Random(6)
    log.append(some_drafts(chance, 300))
    server.restart()
    until(lambda: server.ask("PING"), "it is back")
    again = connect(server.url)
    again.append(some_drafts(chance, 10))
    check(again)


def test_what_a_catch_up_costs_does_not_grow_with_other_events(
    server: RedisServer, connect: Connect
) -> None:
    log = connect(server.url)
    [start, *_] = log.append([Draft(topics=("quiet",)), Draft(topics=("quiet",), data="missed")])

    def commands() -> int:
        server.ask("CONFIG", "RESETSTAT")
        assert contents(log.read_topics(start.position, MANY, ["quiet"]).events) == ["missed"]
        assert contents(log.before_topics(END, 1, MANY, ["quiet"])) == ["missed"]
        log.newest(["quiet"], END, public=True)
        return sum(it["calls"] for it in server.ask("INFO", "commandstats").values())

    before = commands()
    for _ in range(40):
        log.append(drafts(*["x"] * 500))
    assert commands() <= before


def test_damaged_events_are_in_the_log_and_not_in_the_index(
    server: RedisServer, connect: Connect
) -> None:
    log = connect(server.url)
    damaged = ["", "5", '[["t"', '[["t"],"x"]', '[["t",', b"\xff"]
    for text in [*damaged, '[[5],"",null,null,false,null]', '[[""],"",null,null,false,null]']:
        server.ask("XADD", LOG, "*", "draft", text)
    log.append([Draft(topics=('quoted"\\', "ü", "t", "t"), data="a", private=True, retry=3600000)])
    check(log)
    assert [it.topic for it in all_topics(log)] == ['quoted"\\', "t", "ü"]


@each_kind
def test_a_call_looks_at_a_bounded_number_of_names(server: RedisServer, connect: Connect) -> None:
    log = connect(server.url)
    for thousand in range(5):
        log.append([Draft(topics=tuple(f"t/{thousand}{n:03}" for n in range(1000)))])
    globs = [Glob("t/", "", "4500")]
    assert log.topics("t/", "", 9, globs) == ([], "t/3999")
    assert [it.topic for it in all_topics(log, "t/", globs=globs)] == ["t/4500"]


@each_kind
def test_a_call_compares_a_bounded_number_of_bytes(server: RedisServer, connect: Connect) -> None:
    log = connect(server.url)
    names = [f"u/{'a' * 1000}{n:03}" for n in range(900)]
    for start in range(0, 900, 60):
        log.append([Draft(topics=tuple(names[start : start + 60]))])
    one = Glob("u/", "", "899")
    found, upto = log.topics("u/", "", 9, [one])
    assert found == []
    assert names[200] < upto < names[300]  # 256 KB
    more = [one, Glob("u/", "ab", ""), Glob("u/", "", "a")]
    assert names[60] < log.topics("u/", "", 9, more).upto < names[100]
    assert [it.topic for it in all_topics(log, "u/", globs=more)] == [names[899]]
