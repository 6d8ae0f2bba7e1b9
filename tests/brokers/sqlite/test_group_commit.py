"""Which appends share a transaction."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gevent

from support.waiting import PATIENCE
from webapp.brokers.backlog import Backlog
from webapp.brokers.sqlite.group_commit import GroupCommitter
from webapp.brokers.sqlite.log_table import Appended
from webapp.brokers.sqlite.rows import SEQ_BITS
from webapp.core.events import Draft, EventId

MANY = 300


def test_small_appends_and_large_ones_take_turns() -> None:
    commits: list[list[int]] = []

    def run(_: Any, appends: list[list[Any]]) -> Appended:
        commits.append([len(rows) for rows in appends])
        gevent.sleep(0)  # as long as the thread works, others append
        keys = [[len(commits) << SEQ_BITS | number for number in range(len(it))] for it in appends]
        return Appended(EventId(0, 0), [*keys], over_limit=False)

    table: Any = SimpleNamespace(append=None)
    committer = GroupCommitter(table, run, lambda _: None, lambda *_: None, Backlog(1 << 30))
    draft = Draft(topics=("t",), data="x")
    sizes = [MANY, MANY, MANY, 1, 1]
    appends = [gevent.spawn(committer.append, [draft] * size) for size in sizes]
    gevent.joinall(appends, timeout=PATIENCE, raise_error=True)
    assert [len(it.value or ()) for it in appends] == sizes
    small = commits.index([1, 1])
    assert small <= 1
    assert [it for it in commits if it != [1, 1]] == [[MANY]] * 3
