"""The turns of long work on an event log."""

from __future__ import annotations

import gevent
import pytest

from webapp.brokers.steps import Steps


class Clock:
    """A clock that goes on only when somebody works or sleeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.slept = list[float]()
        monkeypatch.setattr("webapp.brokers.steps.monotonic", lambda: self.now)
        monkeypatch.setattr("webapp.brokers.steps.gevent.sleep", self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 6))
        self.now += seconds


def test_however_many_ask_one_step_is_done_at_a_time() -> None:
    steps, running, most = Steps(), 0, 0

    def work() -> None:
        nonlocal running, most
        with steps.turn():
            running += 1
            most = max(most, running)
            gevent.sleep(0)
            running -= 1

    gevent.joinall([gevent.spawn(work) for _ in range(50)], raise_error=True)
    assert most == 1


def test_a_pause_follows_as_long_as_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, steps = Clock(monkeypatch), Steps()
    for took in (0.020, 0.002, 3.0, 0.0001, 0.0):
        with steps.turn():
            clock.now += took
    assert clock.slept == [0.020, 0.005, 0.25]  # no pause after a step that found nothing


def test_a_step_that_comes_late_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, steps = Clock(monkeypatch), Steps()
    for _ in range(3):
        with steps.turn():
            clock.now += 0.020
        clock.now += 0.021
    assert clock.slept == []


def test_a_step_that_fails_ends_its_turn() -> None:
    steps = Steps()
    with pytest.raises(ZeroDivisionError), steps.turn():
        raise ZeroDivisionError
    with gevent.Timeout(10), steps.turn():
        pass
