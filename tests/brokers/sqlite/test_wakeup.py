"""A process that appends wakes those that follow."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import gevent
import pytest

from support.events import contents, drafts, next_events, number_texts
from support.waiting import PATIENCE, one_of_three, until
from webapp.brokers.sqlite.wakeup import WakeupSocket

if TYPE_CHECKING:
    from pathlib import Path

    from support.broker_process import Connect


@pytest.mark.parametrize("folder", ["short", "/".join(["long" * 10] * 5)])
def test_another_process_is_woken_and_need_not_look(
    connect: Connect, tmp_path: Path, folder: str
) -> None:
    at = tmp_path / folder / "log.db"
    here, there = connect(at), connect(at)
    follower = there.follow(here.bounds().head)
    here.append(drafts("first"))
    next_events(follower, 1)

    def seconds() -> float:
        began = time.monotonic()
        for number in number_texts(30):
            here.append(drafts(number))
            assert contents(next_events(follower, 1)) == [number]
        return time.monotonic() - began

    assert one_of_three(seconds, lambda it: it < 20) < 20  # looking once a second would take 30


def test_the_bells_of_the_dead_are_taken_away(connect: Connect, path: Path) -> None:
    here, there, other = connect(), connect(), connect()
    bells = path.with_name("log.db.wake")
    for log in (here, there, other):
        log.bounds()
    assert len(list(bells.iterdir())) == 3
    there.process.kill()
    there.process.wait()
    here.append(drafts("a"))
    until(lambda: len(list(bells.iterdir())) == 2, "the dead one's bell is gone")
    other.stop()
    assert len(list(bells.iterdir())) == 1


def test_a_wakeup_socket_opened_just_now_is_woken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "webapp.brokers.sqlite.wakeup._CLOCK_STEP_NS", 60_000_000_000
    )  # the machine may be busy
    folder, now = tmp_path / "bells", time.time_ns()
    rung: list[int] = []

    def bell(number: int) -> WakeupSocket:
        return WakeupSocket(folder, lambda _: rung.append(number))

    bells = [bell(number) for number in range(2)]
    for number in range(2, 5):
        os.utime(folder, ns=(now, now))  # a clock that is too coarse to tell
        bells[0].notify()
        bells.append(bell(number))
        os.utime(folder, ns=(now, now))
        bells[0].notify()
        with gevent.Timeout(PATIENCE):
            while number not in rung:
                gevent.sleep(0.001)
    for it in bells:
        it.close()
