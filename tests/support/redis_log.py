"""An event log in Redis or Valkey, as its tests publish and disturb it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.events import drafts
from support.waiting import until
from webapp.brokers.base import Gap
from webapp.errors import ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.broker_process import BrokerProcess
    from support.redis_server import RedisServer
    from webapp.brokers.base import Followed
    from webapp.core.events import Event


LOG, IDS, QUEUE = "{tidings}:log", "{tidings}:ids", "{tidings}:queue"
FOLLOWERS = "{tidings}:followers"
PERSISTENT = ("--save", "", "--appendonly", "yes", "--appendfsync", "always")
STATED = 10  # seconds: within these an append answers, whatever the server does


# What depends on the server, rather than on the way to it, is asked of each kind.
each_kind = pytest.mark.parametrize("run", ["redis-server", "valkey-server"], indirect=True)


def published(log: BrokerProcess, *data: str) -> list[Event]:
    """Publish as soon as the log can be reached; each has its data for an id."""

    def once() -> list[Event] | None:
        try:
            events: list[Event] = log.append([d for x in data for d in drafts(x, id=f"id {x}")])
        except ServiceUnavailable:
            return None
        return events

    found: list[Event] = until(once, "published")
    return found


def gap(follower: Iterator[Followed]) -> Gap:
    """The gap that must be next, after events maybe."""
    while not isinstance(found := next(follower), Gap):
        pass
    return found


def clients(server: RedisServer) -> list[str]:
    listed: str = server.ask("CLIENT", "LIST")
    return [line for line in listed.splitlines() if " name=tidings " in line]
