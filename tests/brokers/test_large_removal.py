"""A removal of many events, whose process is killed in the middle."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from support.events import MANY
from support.waiting import until
from webapp.core.events import Draft, EventId
from webapp.core.removals import Removal, RemovalEntry

if TYPE_CHECKING:
    from support.broker_process import BrokerProcess, Connect

BEGIN, END = EventId(0, 0), EventId(1 << 60, 0)
MANY_EVENTS = 6000


def all_data(log: BrokerProcess) -> list[str]:
    position, found = log.bounds().floor, list[str]()
    while True:
        page = log.read_page(position, MANY)
        found += [it.draft.data for it in page.events]
        if page.upto <= position or page.upto >= page.bounds.head:
            return found
        position = page.upto


@pytest.mark.parametrize("url", ["sqlite", "redis", "valkey", "postgres"], indirect=True)
def test_others_obey_a_removal_at_once_and_finish_it(connect: Connect) -> None:
    killed, other = connect(), connect()
    follower = other.follow(other.bounds().head)
    for start in range(0, MANY_EVENTS, 500):
        killed.append([Draft(topics=("t", "all"), data=str(start + n)) for n in range(500)])
    [rest] = killed.append([Draft(topics=("rest", "all"), data="rest")])
    killed.start("remove", Removal("t", BEGIN, END))
    while not isinstance(next(follower), RemovalEntry):
        pass
    os.kill(killed.process.pid, signal.SIGKILL)
    assert all_data(other) == ["rest"]
    assert other.newest(["t", "all"], END, public=False) == [None, rest.position]
    assert [it[0] for it in other.topics("", "", 10).entries] == ["all", "rest"]
    [late] = other.append([Draft(topics=("t",), data="late")])
    until(lambda: other.newest(["t"], END, public=False) == [late.position], "it goes on")
    assert all_data(other) == ["rest", "late"]
