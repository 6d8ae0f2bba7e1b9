"""Large appends of all processes take turns, and wait for the followers that live."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.events import contents, drafts, next_events
from support.redis_log import FOLLOWERS, STATED
from support.waiting import until
from webapp.core.events import Draft

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.broker_process import BrokerProcess, Connect
    from support.redis_server import RedisServer

LARGE = drafts(*["x" * 100_000] * 3)
WIDE = [Draft(topics=tuple(map(str, range(1000))))]


def calls(server: RedisServer) -> int:
    """How many scripts the server has run."""
    return int(server.ask("INFO", "commandstats")["cmdstat_evalsha"]["calls"])


def now_ms(server: RedisServer) -> int:
    seconds, microseconds = server.ask("TIME")
    return int(seconds) * 1000 + int(microseconds) // 1000


@pytest.fixture(name="log")
def _log(server: RedisServer, connect: Connect) -> BrokerProcess:
    """One whose follower has read all; it has reported that."""
    log = connect(server.url)
    follower = log.follow(log.bounds().head)
    log.append(drafts("first"))
    assert contents(next_events(follower, 1)) == ["first"]
    return log


def lagging(server: RedisServer) -> None:
    server.ask("HSET", FOLLOWERS, "other", f"{now_ms(server)} 0 0")


def having_the_turn(server: RedisServer) -> None:
    server.ask("HSET", FOLLOWERS, "#turn", f"other {now_ms(server) + 1000}")


@pytest.mark.parametrize("other", [lagging, having_the_turn])
@pytest.mark.parametrize("large", [LARGE, WIDE], ids=["bytes", "topics"])
def test_a_large_append_waits_for_another_process_that_lives(
    server: RedisServer,
    log: BrokerProcess,
    other: Callable[[RedisServer], None],
    large: list[Draft],
) -> None:
    before = calls(server)
    log.append(LARGE)  # more than a follower may have yet to read
    other(server)
    append = log.start("append", large)

    def has_asked_often() -> bool:
        other(server)
        return calls(server) > before + 10

    until(has_asked_often, "it asks again and again")
    assert not append.done()
    server.ask("DEL", FOLLOWERS)
    assert append.result(STATED)


def test_a_large_append_does_not_wait_for_a_dead_process(
    server: RedisServer, log: BrokerProcess
) -> None:
    server.ask("HSET", FOLLOWERS, "other", f"{now_ms(server) - 3000} 0 0")
    log.append(LARGE)
    server.ask("HSET", FOLLOWERS, "other", "1 0 0", "#turn", f"other {now_ms(server) - 1}")
    log.append(LARGE)
    until(lambda: not server.ask("HGET", FOLLOWERS, "other"), "it is forgotten")


def test_a_follower_reports_how_far_it_has_read(server: RedisServer, log: BrokerProcess) -> None:
    log.append(LARGE)
    log.append(LARGE)
    [record] = [it for key, it in server.ask("HGETALL", FOLLOWERS).items() if key != "#turn"]
    at, total, singles = record.split()
    assert 0 <= now_ms(server) - int(at) < 1000 * STATED
    assert int(total) > 300_000
    assert singles == "0"


def test_a_turn_ends_soon_after_its_events_were_followed(
    server: RedisServer, log: BrokerProcess
) -> None:
    log.append(LARGE)
    until(lambda: server.ask("HGET", FOLLOWERS, "#turn").startswith("- "), "it has ended")
