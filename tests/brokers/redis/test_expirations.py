"""Events that expire or are removed leave Redis some at a time, while others come."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.waiting import until
from webapp.brokers.redis.broker import RedisBroker
from webapp.core.events import Draft, EventId

if TYPE_CHECKING:
    from support.broker_process import BrokerProcess, Connect
    from support.redis_server import RedisServer

TIMES = "{tidings}:topics:expires"
ORDINARY = Draft(topics=("t",))
MOST_OF_CALL = 64
MANY = 1000


def expire_many(log: BrokerProcess, number: int = MANY) -> None:
    """Append many events, and wait until they have expired."""
    events = log.append([Draft(topics=(f"x{n}",), ttl=1000) for n in range(number)])
    until(lambda: log.now() > events[-1].expires, "they have expired")


def test_what_has_expired_leaves_the_stream_while_events_come(
    server: RedisServer, connect: Connect
) -> None:
    log = connect(server.url)
    expire_many(log, 100)

    def has_left() -> bool:
        log.append([ORDINARY])
        return not server.ask("ZCARD", TIMES)

    until(has_left, "all have left")
    assert [it[0] for it in log.topics("", "", 10).entries] == ["t"]


def test_a_call_takes_out_a_few(server: RedisServer, connect: Connect) -> None:
    log = connect(server.url)
    expire_many(log)
    before = server.ask("ZCARD", TIMES)
    log.append([ORDINARY])
    assert before - server.ask("ZCARD", TIMES) <= MOST_OF_CALL
    log.bounds()
    assert before - server.ask("ZCARD", TIMES) <= 2 * MOST_OF_CALL


def test_a_follower_has_the_rest_taken_out(server: RedisServer, connect: Connect) -> None:
    log = connect(server.url)
    follower = log.follow(log.bounds().head)
    expire_many(log)
    [event] = log.append([ORDINARY])
    found = next(follower)
    while not isinstance(found, list) or found[-1].position < event.position:
        found = next(follower)
    until(lambda: server.ask("ZCARD", TIMES) == 0, "all have left")
    assert log.newest(["x1", "t"], EventId(1 << 60, 0), public=True) == [None, event.position]


def test_a_call_removes_a_bounded_number_of_topics(server: RedisServer) -> None:
    log = RedisBroker(server.url, 10_000, 1 << 24, 3600)
    names = tuple(f"x{n}" for n in range(500))
    for number in range(20):
        log.append([Draft(topics=("t", *names), data=str(number))])
    before = log.count()
    log._remover._step("begin_removal", "t", "0-0", str(EventId(1 << 60, 0)))
    assert before - 3 < log.count() <= before  # an entry of the removal came, and two events left
    log.close()


def test_a_call_removes_a_bounded_number_of_events(server: RedisServer) -> None:
    log = RedisBroker(server.url, 10_000, 1 << 24, 3600)
    log.append([Draft(topics=("t",), data=str(number)) for number in range(400)])
    before = log.count()
    log._remover._step("begin_removal", "t", "0-0", str(EventId(1 << 60, 0)))
    assert before - 200 < log.count() < before
    log.close()
