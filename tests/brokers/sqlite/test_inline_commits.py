"""What is small and alone is committed without a thread."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import gevent
import pytest

from support.events import MANY, contents, drafts, next_events
from support.sqlite_file import is_intact, locked, opened
from support.waiting import PATIENCE
from webapp.brokers.sqlite import inline_commit
from webapp.brokers.sqlite.broker import SqliteBroker
from webapp.brokers.sqlite.rows import encode_row
from webapp.core.events import Event, EventId
from webapp.errors import Conflict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class CountedThreads:
    """A log in this process, and how often its commits went through the thread."""

    def __init__(self, path: Path) -> None:
        self.log = SqliteBroker(path, 1000, MANY, 3600)
        self._ask = self.log._committer._run
        self.log._committer._run = self._counted
        self.asked = 0
        while not self.took(self.append, 0):
            pass  # the first goes through it anyhow

    def _counted(self, *values: Any) -> Any:
        self.asked += 1
        return self._ask(*values)

    def append(self, *data: str) -> list[Event]:
        return self.log.append(drafts(*data or ("a",)))

    def took(self, publish: Callable[..., object], asked: int) -> bool:
        """Publish; return whether the thread was asked that often."""
        before = self.asked
        publish()
        return self.asked - before == asked


@pytest.fixture(name="threads")
def _threads(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CountedThreads]:
    monkeypatch.setattr(
        "webapp.brokers.sqlite.inline_commit.InlineCommitPolicy.SLOW_S", 60
    )  # the machine may be busy
    threads = CountedThreads(path)
    yield threads
    threads.log.close()


def test_what_is_small_and_alone_is_committed_without_a_thread(
    threads: CountedThreads, path: Path
) -> None:
    follower = threads.log.follow(threads.log.bounds().head)
    new = [threads.append(str(number))[0] for number in range(20)]
    assert threads.took(lambda: new.extend(threads.append("x", "y")), 0)
    assert [event.position for event in next_events(follower, 22)] == [
        event.position for event in new
    ]
    with opened(path) as db:  # for every process
        kept = db.execute("SELECT draft FROM events ORDER BY place DESC LIMIT 22").fetchall()
    assert [text for (text,) in reversed(kept)] == [event.draft.to_json() for event in new]
    assert threads.took(lambda: threads.append(*["a"] * 11), 1)
    assert threads.took(lambda: threads.append("x" * (32 << 10)), 1)
    with pytest.raises(Conflict):
        threads.log.append([*drafts("1", id="own"), *drafts("2", id="own")])
    [first, again] = [threads.log.append(drafts("1", id="own"))[0] for _ in range(2)]
    assert first.position == again.position
    assert is_intact(path)


def test_a_locked_file_is_left_to_the_thread(threads: CountedThreads, path: Path) -> None:
    database = threads.log._table.database
    quick = database._impatient
    with locked(path):
        asked, began = threads.asked, time.monotonic()
        publishers = [gevent.spawn(threads.append, name) for name in ("a", "behind it")]
        while threads.asked == asked:
            gevent.sleep(0.01)
        assert time.monotonic() - began < 4  # the loop waits for nobody; a thread does for 5 s
    assert database._impatient is quick
    for publisher in publishers:
        assert publisher.get(timeout=PATIENCE)
    assert contents(threads.log.before(EventId(1 << 42, 0), 2, MANY)) == ["a", "behind it"]
    assert threads.took(threads.append, 0)


def test_the_thread_commits_after_the_disk_was_slow(
    threads: CountedThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = threads.log._table
    commit = file.try_append
    committed = commit([encode_row(draft) for draft in drafts("a")])  # which may wait for the disk

    def computing(_: Any) -> Any:
        until = time.monotonic() + 0.01
        while time.monotonic() < until:
            pass
        return committed

    def waiting(rows: Any) -> Any:
        time.sleep(0.01)
        waits.append(1)
        return commit(rows)

    waits = list[int]()
    # On a busy machine, a thread that only computes has to wait now and then, too.
    monkeypatch.setattr(inline_commit, "_voluntary_switches", lambda: len(waits))

    monkeypatch.setattr("webapp.brokers.sqlite.inline_commit.InlineCommitPolicy.SLOW_S", 0.002)
    monkeypatch.setattr("webapp.brokers.sqlite.inline_commit.InlineCommitPolicy.PAUSE_FACTOR", 1e9)
    monkeypatch.setattr(file, "try_append", computing)
    assert threads.took(threads.append, 0)
    monkeypatch.setattr(file, "try_append", waiting)
    assert threads.took(threads.append, 0)
    assert threads.took(threads.append, 1)


def test_a_thread_that_sleeps_has_waited() -> None:
    before = inline_commit._voluntary_switches()
    time.sleep(0.001)
    assert inline_commit._voluntary_switches() > before


def test_a_file_that_was_removed_takes_no_more_without_a_thread(
    threads: CountedThreads, path: Path
) -> None:
    for file in path.parent.glob("log.db*"):
        if file.is_file():
            file.unlink()
    assert threads.took(threads.append, 1)
    assert threads.took(threads.append, 0)
    assert len(threads.log.before(EventId(1 << 42, 0), 5, MANY)) == 2


def test_now_and_then_the_thread_moves_the_write_ahead_log(
    threads: CountedThreads, path: Path
) -> None:
    wal = path.with_name("log.db-wal")
    for _ in range(1500):
        threads.append("x" * 4000)
    assert wal.stat().st_size < 12 << 20
