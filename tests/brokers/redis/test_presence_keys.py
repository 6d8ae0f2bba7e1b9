"""The keys of presence in Redis: damaged ones, and many subscribers or revocations in them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from support.presence import ALL, listed_on
from support.redis_log import STATED, each_kind
from support.redis_server import IN_MEMORY, RedisServer
from support.tokens import KEY
from support.waiting import until
from webapp.brokers.presence_base import MAX_REVOKED
from webapp.errors import ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.broker_process import Connect
    from support.redis_server import Run
    from support.server import Server

pytestmark = pytest.mark.slow

PROCESSES, NOTICES = "{tidings}:processes", "{tidings}:notices"
REVOKED, SUBJECTS = "{tidings}:revoked", "{tidings}:subjects"


@each_kind
@pytest.mark.parametrize("key", [PROCESSES, NOTICES, PROCESSES + ":mine"])
def test_what_can_be_made_again_is(server: RedisServer, connect: Connect, key: str) -> None:
    presence = connect(server.url)
    presence.heartbeat({"one": "about one"})
    start = presence.notices_after(None).last_number
    if key.endswith("mine"):
        [key] = server.ask("KEYS", f"{PROCESSES}:*")
    server.ask("DEL", key)
    server.ask("SET", key, "x")
    assert presence.heartbeat({}) == (key == NOTICES)  # False: register all again
    presence.heartbeat({"one": "about one"})
    assert presence.subscribers() == [("one", "about one")]
    presence.broadcast("!a")
    news = presence.notices_after(start)
    assert "!a" in news.notices
    assert news.complete == (key != NOTICES)


@each_kind
@pytest.mark.parametrize("key", [REVOKED, SUBJECTS])
def test_what_cannot_be_made_again_is_named(
    server: RedisServer, connect: Connect, key: str
) -> None:
    presence = connect(server.url)
    server.ask("SET", key, "x")
    presence.heartbeat({"one": "about one"})
    now = time.time()
    calls: dict[str, dict[str, tuple[Any, ...]]] = {
        REVOKED: {"revoked": (), "revoke": ("token", now + 9, "#")},
        SUBJECTS: {"subjects": (), "revoke_subject": ("joe", now, now - 9, "#")},
    }
    for method, arguments in calls[key].items():
        with pytest.raises(ServiceUnavailable, match=f"{key}.*Delete the key"):
            presence.start(method, *arguments).result(STATED)
    assert server.ask("GET", key) == "x"


@pytest.mark.parametrize(
    "damage", [("SET", NOTICES, "x"), ("XADD", NOTICES, "5-3", "a", "b")], ids=["type", "entry"]
)
def test_damaged_notices_spin_neither_the_hub_nor_the_server(
    server: RedisServer, serve: Callable[..., Server], damage: tuple[str, ...]
) -> None:
    hub = serve(REDIS_URL=server.url, TIDINGS_JWT_KEY=KEY)
    with hub.listen(topic="t") as stream:
        until(lambda: listed_on(hub), "it is listed")
        if damage[0] == "SET":
            server.ask("DEL", NOTICES)
        server.ask("CONFIG", "RESETSTAT")
        server.ask(*damage)
        until(lambda: server.ask("INFO", "stats")["total_commands_processed"] > 20, "it goes on")
        began = time.monotonic()
        for _ in range(20):
            form = {"topic": "t", "data": "x"}
            assert hub.http.post("/events", data=form, headers=ALL).status_code == 200
        stream.take(20)
        spent = time.monotonic() - began
        assert server.ask("INFO", "stats")["total_commands_processed"] < 5000 + 1000 * spent
        until(lambda: server.ask("TYPE", NOTICES) == "stream", "they begin again")


def test_a_kick_after_the_notices_were_lost_is_seen(server: RedisServer, connect: Connect) -> None:
    presence = connect(server.url)
    presence.heartbeat({})
    for n in range(5):
        presence.broadcast(f"!{n}")
    start = presence.notices_after(None).last_number
    server.ask("DEL", NOTICES)
    presence.broadcast("!kick")
    news = presence.notices_after(start)
    assert (news.notices, news.complete) == (["!kick"], False)
    server.ask("DEL", NOTICES)
    server.ask("XADD", NOTICES, "0-*", "lines", "!other", "total", 6)  # as 0.1.0 begins again
    assert presence.notices_after(news.last_number).notices == ["!other"]


def test_full_memory_refuses_a_notice_and_keeps_the_others(run: Run, connect: Connect) -> None:
    server = run(*IN_MEMORY, "--maxmemory-policy", "noeviction")
    presence = connect(server.url)
    start = presence.notices_after(None).last_number
    presence.broadcast("!a")
    server.ask("CONFIG", "SET", "maxmemory", "1mb")
    with pytest.raises(ServiceUnavailable, match="memory"):
        presence.broadcast("!b")
    assert presence.notices_after(start).notices == ["!a"]


@each_kind
def test_subscribers_of_a_dead_process_are_dropped_some_at_a_time(
    server: RedisServer, connect: Connect
) -> None:
    presence = connect(server.url)
    presence.heartbeat({})
    number = presence.notices_after(None).last_number
    dead = {f"urn:uuid:{n:032d}": "x" * 200 for n in range(5000)}
    for owner in ("dead", "dying"):
        for start in range(0, 5000, 1000):
            part = [x for it in list(dead.items())[start : start + 1000] for x in it]
            server.ask("HSET", f"{PROCESSES}:{owner}", *part)
        server.ask("ZADD", PROCESSES, 1, owner)
    server.ask("CONFIG", "RESETSTAT")
    server.ask("CONFIG", "SET", "slowlog-log-slower-than", 0)
    server.ask("CONFIG", "SET", "slowlog-max-len", 100_000)
    gone, seen = 0, True
    while gone < 10_000:
        presence.heartbeat({})
        while (news := presence.notices_after(number)).notices:
            gone, number = gone + len(news.notices), news.last_number
            seen = seen and news.complete
    assert gone == 10_000
    assert seen
    assert server.ask("INFO", "commandstats")["cmdstat_hdel"]["calls"] == 10_000
    assert server.ask("INFO", "commandstats")["cmdstat_evalsha"]["calls"] >= 20
    assert server.ask("KEYS", f"{PROCESSES}:*") == []


def test_a_process_that_ends_removes_all_its_subscribers(
    server: RedisServer, connect: Connect
) -> None:
    presence, other = connect(server.url), connect(server.url)
    for part in range(5):
        presence.heartbeat({f"{part} {n}": "x" * 100 for n in range(400)})
    presence.deregister()
    assert other.subscribers() == []
    assert server.ask("KEYS", f"{PROCESSES}*") == []


@each_kind
def test_many_revocations_are_read_page_by_page(server: RedisServer, connect: Connect) -> None:
    presence, until_ms = connect(server.url), (time.time() + 1e6) * 1000
    for start in range(0, 5000, 1000):
        for key in (REVOKED, SUBJECTS):
            pairs = [x for n in range(start, start + 1000) for x in (until_ms, f"name {n}")]
            server.ask("ZADD", key, *pairs)
    presence.subjects()  # once, it looks for what older hubs stored
    server.ask("CONFIG", "RESETSTAT")
    assert len(presence.revoked()) == 5000
    assert len(presence.subjects()) == 5000
    assert 10 <= server.ask("INFO", "commandstats")["cmdstat_evalsha"]["calls"] <= 20
    assert MAX_REVOKED > 5000


def test_a_hub_whose_clock_is_ahead_forgets_no_revocation(
    server: RedisServer, connect: Connect
) -> None:
    presence, now, age = connect(server.url), time.time(), 30 * 86400.0
    presence.revoke_subject("mallory", now, now - age, "#")
    ahead = now + 31 * 86400
    presence.revoke_subject("joe", ahead, ahead - age, "#")
    assert sorted(name for name, _ in presence.subjects()) == ["joe", "mallory"]


@each_kind
def test_the_subscribers_of_one_topic_are_sought_page_by_page(
    server: RedisServer, connect: Connect
) -> None:
    presence = connect(server.url)
    presence.heartbeat({"mine": '{"topics": ["t 7"], "payload": null}'})
    for start in range(0, 5000, 1000):
        part = [
            text
            for n in range(start, start + 1000)
            for text in (f"{n:04d}", f'{{"topics": ["t {n % 500}"], "payload": "{"x" * 100}"}}')
        ]
        server.ask("HSET", f"{PROCESSES}:other", *part)
    server.ask("HSET", f"{PROCESSES}:other", "huge", "x" * 2_000_000)
    server.ask("ZADD", PROCESSES, (time.time() + 1e6) * 1000, "other")
    server.ask("CONFIG", "RESETSTAT")
    found = presence.subscribers('"t 7"')
    assert [name for name, _ in found] == [*(f"{n:04d}" for n in range(7, 5000, 500)), "mine"]
    stats = server.ask("INFO", "stats")
    assert stats["total_net_output_bytes"] < 20_000
    assert server.ask("INFO", "commandstats")["cmdstat_hscan"]["calls"] >= 8
    assert len(presence.subscribers()) == 5001


def test_a_notice_that_is_too_large_is_skipped(server: RedisServer, connect: Connect) -> None:
    presence = connect(server.url)
    presence.broadcast("!a")
    start = presence.notices_after(None).last_number
    fill = "redis.call('XADD', KEYS[1], '0-*', 'lines', string.rep('x', 5000000))"
    server.ask("EVAL", fill, 1, NOTICES)
    presence.broadcast("!b")
    news = presence.notices_after(start)
    assert (news.notices, news.complete) == (["", "!b"], True)
    assert server.ask("MEMORY", "USAGE", NOTICES, "SAMPLES", 0) < 1_000_000
