"""A primary that is lost, and its standby that takes over."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from support.events import MANY, contents, drafts, next_events
from support.postgres_server import running_postgres
from support.waiting import until
from webapp.errors import ServiceUnavailable

if TYPE_CHECKING:
    from support.broker_process import BrokerProcess, Connect


def test_a_standby_is_read_and_takes_over_without_loss_or_double(connect: Connect) -> None:
    with running_postgres() as primary, running_postgres(primary=primary) as standby:
        primary.ask("ALTER SYSTEM SET synchronous_standby_names = '*'")
        primary.ask("SELECT pg_reload_conf()")
        until(
            lambda: primary.ask("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"),
            "it is replicated",
        )
        hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
        log = connect(f"postgresql://hub@{hosts}/postgres?target_session_attrs=read-write")
        start = log.bounds().head
        follower = log.follow(start)
        log.append(drafts("a", id="own a"))
        log.append(drafts("b", id="own b"))
        assert contents(next_events(follower, 2)) == ["a", "b"]

        alone = connect(standby.url())
        until(lambda: len(alone.read(start, MANY)) == 2, "the standby has it")
        with pytest.raises(ServiceUnavailable, match="takes no writes") as refused:
            alone.append(drafts("no"))
        assert "Name the primary" in refused.value.remedy

        primary.kill()
        assert not is_published(log, "b")
        standby.ask("SELECT pg_promote()")
        for data in "bc":
            until(partial(is_published, log, data), "the standby has taken over")
        until(lambda: is_published(alone, "d"), "it takes writes there, too")
        assert contents(next_events(follower, 2)) == ["c", "d"]
        assert contents(log.read(start, MANY)) == ["a", "b", "c", "d"]


def is_published(log: BrokerProcess, data: str) -> bool:
    try:
        return bool(log.append(drafts(data, id=f"own {data}")))
    except ServiceUnavailable:
        return False
