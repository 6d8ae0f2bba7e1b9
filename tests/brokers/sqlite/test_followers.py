"""Publishers wait for the followers of their process, and of the others."""

from __future__ import annotations

import functools
import operator
from itertools import count
from typing import TYPE_CHECKING

import gevent
import pytest
from gevent.lock import Semaphore

from support.events import MANY, contents, drafts
from support.waiting import PATIENCE
from webapp.brokers.backlog import Backlog
from webapp.brokers.sqlite.broker import SqliteBroker
from webapp.brokers.sqlite.follower import PAGE_BYTES, FollowerQueue, frame_bytes
from webapp.core.events import Draft, Event, EventId
from webapp.errors import ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_EVENTS, _EVENT_BYTES = 10, 30_000  # of one append
_APPEND_BYTES = _EVENTS * _EVENT_BYTES


class Follower:
    """Follows a log, one batch whenever the test says so."""

    def __init__(self, log: SqliteBroker) -> None:
        self._log = log
        self._batches = log.follow(log.bounds().head)
        self._wanted = Semaphore(0)
        self.data = list[str]()
        self.greenlet = gevent.spawn(self._run)

    def read(self) -> None:
        """Take one more batch, when there is one."""
        self._wanted.release()

    def read_all(self) -> None:
        """Take all batches from now on."""
        for _ in range(10_000):
            self.read()

    def _run(self) -> None:
        while True:
            batch = next(self._batches)
            assert isinstance(batch, list)
            self.data += contents(batch)
            self._wanted.acquire()


@pytest.fixture(name="logs")
def _logs(path: Path) -> Iterator[list[SqliteBroker]]:
    """Two brokers, as two processes have them, over one file."""
    logs = [SqliteBroker(path, 10_000, MANY, 3600) for _ in range(2)]
    for log in logs:
        log.bounds()
    yield logs
    for log in logs:
        log.close()


def test_publishers_are_never_further_ahead_than_the_bound(
    logs: list[SqliteBroker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webapp.brokers.backlog.PATIENCE_S", PATIENCE)
    log, _ = logs
    follower, numbers = Follower(log), count()
    appended, furthest = 0, 0

    def publish() -> None:
        nonlocal appended, furthest
        for _ in range(5):
            log.append(drafts(*[f"{next(numbers)} ".ljust(_EVENT_BYTES, "x")] * _EVENTS))
            appended += _APPEND_BYTES
            furthest = max(furthest, appended - sum(map(len, follower.data)))

    publishers = [gevent.spawn(publish) for _ in range(8)]
    with gevent.Timeout(PATIENCE):
        while not all(publisher.dead for publisher in publishers):
            gevent.sleep(0.001)
            if not log._backlog.has_room(9, _APPEND_BYTES):
                follower.read()
    gevent.joinall(publishers, raise_error=True)
    follower.read_all()
    with gevent.Timeout(PATIENCE):
        while len(follower.data) < 8 * 5 * _EVENTS:
            gevent.sleep(0.001)
    # What is committed last, and what the follower has taken but not finished, come on top.
    assert furthest <= log._backlog.limit_for_large + _APPEND_BYTES + 2 * PAGE_BYTES
    follower.greenlet.kill()
    assert log._backlog.size == 0


def test_a_small_event_passes_large_ones_that_wait(
    logs: list[SqliteBroker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webapp.brokers.backlog.PATIENCE_S", PATIENCE)
    log, _ = logs
    follower = Follower(log)
    large = drafts(*["x" * _EVENT_BYTES] * _EVENTS)
    publishers = [gevent.spawn(log.append, large) for _ in range(8)]
    with gevent.Timeout(PATIENCE):
        while log._backlog.has_room(9, _APPEND_BYTES):
            gevent.sleep(0.001)
        log.append(drafts("small"))
    assert not all(publisher.dead for publisher in publishers)
    follower.read_all()
    gevent.joinall(publishers, raise_error=True, timeout=PATIENCE)
    assert all(publisher.dead for publisher in publishers)


def test_publishers_wait_for_a_follower_of_another_process(
    logs: list[SqliteBroker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webapp.brokers.backlog.PATIENCE_S", PATIENCE)
    monkeypatch.setattr("webapp.brokers.backlog._REPORT_S", PATIENCE)
    here, there = logs
    follower = Follower(there)
    for _ in range(3):
        here.append(drafts(*["x" * _EVENT_BYTES] * _EVENTS))
    with gevent.Timeout(PATIENCE):
        while here._backlog.has_room(9, _APPEND_BYTES):  # until the other one has reported it
            follower.read()
            gevent.sleep(0.001)
    assert here._backlog.size == 0
    here.append(drafts("small"))


def test_a_follower_that_never_catches_up_is_an_error_and_no_wait_without_end(
    logs: list[SqliteBroker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webapp.brokers.sqlite.group_commit._PUBLISH_TIMEOUT_S", 0)
    log, _ = logs
    log._backlog.add(MANY)
    with pytest.raises(ServiceUnavailable, match="faster than this hub can deliver"):
        log.append(drafts("a"))


def queued() -> tuple[FollowerQueue, list[Event]]:
    """A queue that is up to date, and the events that follow its position."""
    queue = FollowerQueue(EventId(1, 0), Backlog(MANY))
    queue.stale = False
    return queue, [Event(EventId(1, number), Draft(topics=("t",))) for number in (1, 2, 3)]


def test_a_wakeup_by_another_process_does_not_make_a_follower_read_what_its_process_commits() -> (
    None
):
    queue, events = queued()
    queue.expect(queue.position)
    queue.mark_stale()  # before the events of the commit are made
    assert not queue.must_read
    queue.push(queue.position, events, frame_bytes(events))
    assert queue.take() == events
    assert queue.must_read  # what the other one committed


def test_a_follower_reads_the_file_if_others_committed_before_its_process() -> None:
    queue, events = queued()
    queue.mark_stale()
    queue.expect(events[0].position)
    assert queue.must_read
    queue.push(events[0].position, events[1:], frame_bytes(events[1:]))
    assert not queue.take()


def test_a_push_while_the_file_is_read_is_not_taken_twice() -> None:
    queue, events = queued()
    queue.mark_stale()
    queue.begin_reading()
    queue.expect(queue.position)
    queue.push(queue.position, events, frame_bytes(events))
    queue.end_reading()
    queue.note_page(events, events[-1].position, 0)
    assert not queue.take()
    assert queue.must_read


def test_a_push_that_never_comes_does_not_hold_up_a_follower() -> None:
    queue, _ = queued()
    queue.expect(queue.position)
    queue.tick()
    assert queue.must_read


def test_a_commit_that_refused_all_does_not_hold_up_a_follower() -> None:
    queue, _ = queued()
    queue.expect(queue.position)
    queue.mark_stale()  # another process has committed something
    queue.push(queue.position, [], 0)
    assert queue.must_read


def test_a_follower_gets_what_its_process_commits_in_parts_and_without_the_file() -> None:
    backlog = Backlog(MANY)
    queue = FollowerQueue(EventId(1, 0), backlog)
    queue.stale = False
    events = [
        Event(EventId(1, number), Draft(topics=("t",), data="x" * 100_000))
        for number in range(1, 11)
    ]
    queue.push(queue.position, events, frame_bytes(events))
    assert not queue.stale
    taken = list(iter(queue.take, []))
    assert [len(part) for part in taken] == [3, 3, 3, 1]
    assert functools.reduce(operator.iadd, taken, []) == events
    assert backlog.size == 0
