"""Long-lived tasks: what fails is left out, counted and logged, and the task goes on."""

from __future__ import annotations

import gevent
import pytest

from support.waiting import PATIENCE
from webapp import tasks


def test_what_is_left_out_is_counted_each_time_and_logged_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "_logged", {})
    tasks.take_uncounted()
    for _ in range(3):
        with tasks.Skipping("demo"):
            int("what a client\nwrote")
    with tasks.Skipping("demo"):
        raise TypeError
    assert tasks.take_uncounted() == [("demo", 4)]
    assert len(caplog.messages) == 2
    assert "ValueError (test_tasks.py:" in caplog.text
    assert "client" not in caplog.text


def test_a_task_that_fails_begins_anew_and_ends_when_it_returns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tasks, "_LONGEST_PAUSE_S", 0.001)
    outcomes = iter([ValueError, KeyError, None])

    def run() -> None:
        if error := next(outcomes):
            raise error

    tasks.lasting("demo", run).get(timeout=PATIENCE)
    assert list(outcomes) == []
    with pytest.raises(gevent.GreenletExit), tasks.Skipping("demo"):
        raise gevent.GreenletExit
